"""What all stages agree on: records, configuration, tables and tasks. No torch, no I/O."""
