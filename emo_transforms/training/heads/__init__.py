"""Heads fitted to labels on the cache."""
