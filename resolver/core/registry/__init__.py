"""TODO resolver/core/registry."""
