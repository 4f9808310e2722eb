"""Compare many heads and seeds in one table, with published rows."""
