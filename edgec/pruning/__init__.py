"""Group channel pruning: which channels go together, which go, and what is left."""
