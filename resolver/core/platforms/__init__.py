"""Platforms: parsing, facts, matching and selection. Described in docs/platform-matching.md."""
