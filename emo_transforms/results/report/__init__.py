"""The report: from an output folder to one HTML page that needs nothing else."""
