"""Narrow ports and their backends."""
