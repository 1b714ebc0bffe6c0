"""The local store: verified content by digest, and the references that name it."""

from resolver.store.files import Patience
from resolver.store.names import BadName, NameRecord
from resolver.store.store import LocalStore

__all__ = ["BadName", "LocalStore", "NameRecord", "Patience"]
