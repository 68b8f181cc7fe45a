"""The clip again, with what was found in it: content read from tables and shards, drawing, and the new file."""
