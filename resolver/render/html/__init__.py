"""Answers as one HTML page without scripts."""
