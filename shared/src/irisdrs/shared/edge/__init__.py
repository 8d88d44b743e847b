"""The edge: from detector reads to objects in the store and events on the bus, over a spool on a local disk."""
