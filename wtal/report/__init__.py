"""Pictures and pages of a run's results."""
