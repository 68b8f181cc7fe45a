"""Faces in frames: found, followed, cropped and resampled."""
