"""TODO resolver/render/html."""
