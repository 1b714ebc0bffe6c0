"""TODO resolver/render/ci."""
