"""Whether there is room for what is to be fetched, asked before it is fetched (R39)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver.core.plan import State
from resolver.errors import StoreFault

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from resolver.core.plan import Piece


def refuse_without_room(root: Path, pieces: Iterable[Piece]) -> None:
    """Refuse a pull that cannot fit.

    What was begun earlier is not counted: its room was reserved then.

    Raises:
        StoreFault: less is free than is to be fetched.

    """
    wanted = sum(piece.descriptor.size for piece in pieces if piece.state is not State.PARTIAL)
    folder = next((path for path in (root, *root.parents) if path.exists()), None)
    if not wanted or folder is None:
        return
    try:
        status = os.statvfs(folder)
    except OSError:
        # Whoever writes will be told.
        return
    free = status.f_bavail * status.f_frsize
    # A file system that does not say how large it is has none of these.
    if status.f_blocks and wanted > free:
        raise StoreFault(
            str(root),
            f"no space left: {wanted} bytes are to be fetched, and {free} are free",
            "free some space, or name another folder with `--store`",
        )
