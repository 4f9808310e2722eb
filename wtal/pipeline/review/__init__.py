"""Verdicts of people: from other programs, the next to give, and what they teach."""
