"""Parts of networks that regress the borders of segments: pyramids, their points and targets, losses, decoding."""
