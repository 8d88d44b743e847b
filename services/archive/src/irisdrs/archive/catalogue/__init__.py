"""The catalogue: one row for every object, from which everything is asked."""
