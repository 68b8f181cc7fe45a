"""The feature cache: data set, shards, index, failures, and stored crops as an input."""
