"""Delivering references: certified, inserted into a new context, published, in force at once or not at all."""
