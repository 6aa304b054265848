"""OTLP, whatever carried it: protobuf or JSON in, columns out."""
