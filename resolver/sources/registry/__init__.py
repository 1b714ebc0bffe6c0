"""TODO resolver/sources/registry."""
