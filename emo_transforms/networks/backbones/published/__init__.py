"""Backbones that others published: where they lie, on which terms, and their architectures."""
