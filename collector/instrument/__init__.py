"""What a Django shop imports: OpenTelemetry set-up, code locations, business events."""
