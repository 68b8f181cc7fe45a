"""Kinds of heads side by side: figures over seeds, and what they cost."""
