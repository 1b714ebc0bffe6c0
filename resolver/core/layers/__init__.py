"""TODO resolver/core/layers."""
