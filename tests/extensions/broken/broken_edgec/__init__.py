"""A package that fails at import."""
