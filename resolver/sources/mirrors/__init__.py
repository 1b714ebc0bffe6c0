"""TODO resolver/sources/mirrors."""
