"""Many heads and seeds in one table, beside published rows."""
