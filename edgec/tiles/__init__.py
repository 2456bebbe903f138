"""Large images through a network in tiles."""
