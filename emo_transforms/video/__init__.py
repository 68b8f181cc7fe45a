"""Frames of a video file: which there are and when, which are looked at, and their decoding in a child process."""
