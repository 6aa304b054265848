"""Bearer tokens: who may ask what, where the listener is not a loopback address."""
