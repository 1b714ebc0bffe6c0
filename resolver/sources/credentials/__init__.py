"""Credentials: where they are found, kept, and how they stay secret."""
