"""TODO resolver/sources/credentials."""
