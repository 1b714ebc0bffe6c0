"""TODO resolver/files."""
