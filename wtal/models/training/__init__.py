"""Training: inputs, settings, the trainer and its log."""
