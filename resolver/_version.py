"""The version of this package; it imports nothing, so that anything may import it."""

__version__ = "0.1.0"
