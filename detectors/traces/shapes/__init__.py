"""One bad trace shape a module; none imports another."""
