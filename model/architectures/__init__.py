"""The network families, one file a paper."""
