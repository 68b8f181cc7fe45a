"""The goals of the shipped weights on the test side of the published split; see the module ``shipped_weights``."""
