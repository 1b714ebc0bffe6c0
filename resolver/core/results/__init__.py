"""TODO resolver/core/results."""
