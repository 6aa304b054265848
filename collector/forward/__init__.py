"""Remote write, outgoing: what is stored goes to other systems, each behind a durable queue."""
