"""One panel kind a module, and their registry."""
