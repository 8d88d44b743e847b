"""What should exist, held against the store and the catalogue."""
