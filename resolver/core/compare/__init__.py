"""TODO resolver/core/compare."""
