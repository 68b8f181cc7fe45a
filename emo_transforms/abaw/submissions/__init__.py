"""Templates, and submission files written, read back and validated."""
