"""What ``emobeam inspect`` tells of a cache, a head, an output or annotations."""
