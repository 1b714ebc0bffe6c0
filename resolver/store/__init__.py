"""WHERE CONTENT IS KEPT: verified, by digest, and under the names it was asked for by."""

from resolver.store.local import LocalStore
from resolver.store.lock import Patience
from resolver.store.names import NameRecord
from resolver.store.records import BadName

__all__ = ["BadName", "LocalStore", "NameRecord", "Patience"]
