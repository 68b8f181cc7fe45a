"""Training material of our own making: rendered faces, and photographs labelled by a teacher."""
