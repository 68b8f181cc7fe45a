"""Backbones fitted to pictures of faces."""
