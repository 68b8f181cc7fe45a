"""Templates, keys and submission files of the ABAW challenges."""
