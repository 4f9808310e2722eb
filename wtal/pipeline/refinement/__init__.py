"""The second stage of a run: `wtal refine`."""
