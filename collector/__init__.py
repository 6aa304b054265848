"""Everything that arrives: receivers, scrapes, pollers, and the processors behind them."""
