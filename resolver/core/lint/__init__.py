"""TODO resolver/core/lint."""
