"""What tests of every room use: the real store in memory."""
