"""How weights of few bits are stored."""
