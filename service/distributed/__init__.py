"""Training on several processes and machines, under torchrun."""
