"""Training beyond one machine: tables sharded over ranks by TorchRec, everything else data-parallel."""
