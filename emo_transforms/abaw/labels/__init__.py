"""The organisers' annotations, read and counted."""
