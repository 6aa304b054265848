"""The vocabulary and the memory: model, ports, PromQL, backends and the SQL session."""
