"""Parked events in the hands of people: looked at, sent again after a fix, or discarded; each decision is kept."""
