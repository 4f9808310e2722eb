"""Exchange with other programs: features, checkpoints, challenge files."""
