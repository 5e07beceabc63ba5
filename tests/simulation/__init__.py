"""Years of simulated trouble: the whole program under a virtual clock, broker, market and owner."""
