"""Child processes that work for a launcher or a worker: their pool, and what runs in them. Neither knows Beam."""
