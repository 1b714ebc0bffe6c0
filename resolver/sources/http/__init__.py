"""TODO resolver/sources/http."""
