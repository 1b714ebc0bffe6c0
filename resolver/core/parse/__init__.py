"""TODO resolver/core/parse."""
