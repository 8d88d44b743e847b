"""`iris status`: services, queues, and who used how much of the latency budget."""
