"""Serve: a registry over the store, a layout, or other registries."""
