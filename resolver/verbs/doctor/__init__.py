"""TODO resolver/verbs/doctor."""
