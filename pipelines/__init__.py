"""One file per job: parse, configure, run. ``cli`` ties them together."""
