"""Jobs on the organisers' files: submit, validate, score, tune."""
