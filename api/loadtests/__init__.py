"""Load tests: what a test tool's summary tells, kept as a record."""
