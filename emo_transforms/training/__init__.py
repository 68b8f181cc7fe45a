"""Fitting heads (and backbones) to labels: samples, hold-out, loader, losses, recipes, the loop."""
