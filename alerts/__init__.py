"""Who must know, once: rules, state, routing, silences, delivery, incidents."""
