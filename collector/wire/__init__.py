"""Compiled reading of protobuf bytes: fields and hashes."""
