"""One panel kind a module."""
