"""Is a trace or a signal odd? Findings with evidence."""
