"""Faces rendered from ICT-FaceKit with exactly known shape activations, for training without a data set."""
