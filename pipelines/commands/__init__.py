"""The commands of the console script, one file each; they import nothing heavy before they run."""
