"""Faces in frames: MTCNN with a fraction of its work, frame by frame or with short cuts through time."""
