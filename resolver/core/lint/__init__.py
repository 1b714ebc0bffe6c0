"""Lint: the rules, and what they look at."""
