"""Jobs that train, and that make material to train on."""
