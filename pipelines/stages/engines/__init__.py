"""Stage 1 and stage 2 on Flink, Spark and Dataflow."""
