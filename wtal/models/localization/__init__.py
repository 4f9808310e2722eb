"""Class activations to detections: signals, proposals, scores, suppression."""
