"""TODO resolver/core/platforms."""
