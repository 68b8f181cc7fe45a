"""What studies need of the predictions tables: events, summaries, baselines, agreement with human coding."""
