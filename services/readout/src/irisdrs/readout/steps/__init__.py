"""Thin stpipe Steps around what `exposure_reads` and `offline` do."""
