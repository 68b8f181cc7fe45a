"""The main jobs: annotate, extract, predict and plan."""
