"""Lock files: their form, drift against a registry, and export to other tools."""
