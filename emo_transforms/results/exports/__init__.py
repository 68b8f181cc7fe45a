"""Ways out: predictions in the forms that other programs read. Readers and writers are pure; no Beam."""
