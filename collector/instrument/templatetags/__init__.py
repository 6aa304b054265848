"""Django template tags; add `collector.instrument` to INSTALLED_APPS to load them."""
