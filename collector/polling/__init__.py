"""What every poller builds on: the contract, its settings in the configuration, bounded HTTP."""
