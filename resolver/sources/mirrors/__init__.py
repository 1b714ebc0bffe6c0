"""Endpoints of a registry: mirrors, and the files that configure them."""
