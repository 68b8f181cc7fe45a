"""Predictions beside human coding."""
