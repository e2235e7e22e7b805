"""Contestants trained and judged on one split: `appshelf compare`."""
