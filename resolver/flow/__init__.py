"""The verbs: decisions of the core joined to the places that hold content."""
