"""Stand in front of another CRDS server: its contexts and files, fetched once, verified, kept."""
