"""TODO resolver/core/check."""
