"""Challenges, endpoints, and the order of tags."""
