"""Files of other programs that several rooms read."""
