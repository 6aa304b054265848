"""The steps between a group of alerts and a delivery, each a decision with a named reason."""
