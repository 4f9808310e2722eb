"""Videos as people look at them: what browsers play, copies for the rest, small pictures."""
