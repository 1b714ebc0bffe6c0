"""WHERE CONTENT IS KEPT: verified, by digest, and under the names it was asked for by."""

from resolver.store.flock import Patience
from resolver.store.names import BadName, NameRecord
from resolver.store.store import LocalStore

__all__ = ["BadName", "LocalStore", "NameRecord", "Patience"]
