"""Human verdicts: imported from other programs, the most useful ones next, and lessons from them."""
