"""Submission that every challenge accepts."""

GOOD = {
    "version": "VERSION 1.3",
    "results": {"abc": [{"label": "Archery", "score": 0.5, "segment": [1.0, 2.5]}]},
    "external_data": {"used": True, "details": "features of a network trained on Kinetics-400"},
}
