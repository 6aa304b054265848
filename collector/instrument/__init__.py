"""What a Django shop imports: OpenTelemetry set-up, code locations, business events, RUM.

It imports OpenTelemetry and the standard library, and nothing of the other rooms: it runs inside
the shop's process.
"""
