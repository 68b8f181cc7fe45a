"""Files of weights: everybody's read as data and never run, our own with a note of what they are."""
