"""Backbone and head fitted together, from stored crops."""
