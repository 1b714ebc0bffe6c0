"""TODO resolver/render/answers."""
