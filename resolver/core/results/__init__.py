"""Results of the verbs, as values."""
