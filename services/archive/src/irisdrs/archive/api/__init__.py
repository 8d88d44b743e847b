"""Questions to the archive over HTTP."""
