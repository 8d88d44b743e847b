"""Algorithms: arrays in, new arrays out. No header, path, logger or setting."""
