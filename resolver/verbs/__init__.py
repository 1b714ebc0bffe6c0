"""The verbs: decisions of `core` joined to sources and the store, one module per verb."""
