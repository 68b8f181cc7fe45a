"""The challenges' figures, and what is tuned by them."""
