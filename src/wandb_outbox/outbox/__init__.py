"""The outbox: one durable row a run folder, and who may change it."""
