"""TODO resolver/sources/local."""
