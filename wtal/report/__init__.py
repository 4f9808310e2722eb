"""Pictures and pages of what a run has found."""
