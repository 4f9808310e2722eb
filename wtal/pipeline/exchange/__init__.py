"""In from and out to other people's programs: features, checkpoints, challenge files."""
