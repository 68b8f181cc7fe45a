"""Stage 1: what is left to do, one segment from frames to its shard, and the transforms around both."""
