"""Jobs on Flink, Spark and Dataflow: checked, sent, watched, ended."""
