"""Apply a trained model to new videos: the same features, its heads, and watched folders."""
