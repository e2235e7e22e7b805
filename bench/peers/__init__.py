"""Servers that others would have written for the reference work; each runs in an environment of its own."""
