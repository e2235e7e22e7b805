"""Data in and out: logs, examples, and a synthetic store with known truth."""
