"""Strict reading of JSON, TOML and YAML trees, with the place of every value."""
