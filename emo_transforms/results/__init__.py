"""What is made of an output folder: report, overlay, exports, studies. Reads tables, runs no network."""
