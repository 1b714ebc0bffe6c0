"""TODO resolver/verbs."""
