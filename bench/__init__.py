"""Benchmarks: print a table, write JSON, assert nothing about time."""
