"""The graphs of stage 1 and stage 2, and how they run: here, or on Flink, Spark and Dataflow."""
