"""New videos to a trained model: the same features, its heads, and folders that are watched."""
