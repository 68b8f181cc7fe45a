"""Jobs on an output folder: report, overlay, export, events, summarise, agree."""
