"""Hooks of the instrument IRIS that the CRDS client may call while it matches: none is needed."""
