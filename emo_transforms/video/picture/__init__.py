"""What makes a decoded frame the picture that a player shows."""
