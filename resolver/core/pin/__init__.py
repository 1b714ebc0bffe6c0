"""TODO resolver/core/pin."""
