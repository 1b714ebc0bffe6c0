"""TODO resolver/verbs/export."""
