"""Pictures of faces as training data: collections, people folders, batches."""
