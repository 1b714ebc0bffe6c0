"""TODO resolver/verbs/serve."""
