"""Data: segments, the snippet clock, datasets and their file formats, the feature store, batches."""
