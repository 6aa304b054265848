"""The outbox and the delivery ledger, as rows."""
