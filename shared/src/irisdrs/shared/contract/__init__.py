"""The event contract: JSON Schemas and an AsyncAPI document, made from the event classes and the topology table."""
