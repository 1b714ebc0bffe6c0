"""How much the file trees of one run may take: a small archive can name a great many folders."""

from __future__ import annotations

from resolver.errors import LimitExceeded

#: Paths of all trees together, folders that no entry names included; some 250 bytes each. Ours:
#: twice the entries of reliability.md 5, since platforms share layers, and each has its tree.
MAX_PATHS = 4_000_000
#: Names on the ways through symbolic links. Ours: two entries' way through `lib` has one each.
MAX_STEPS = 20_000_000


class TreeRoom:
    """Counts for all trees of one run.

    Args:
        paths, steps: the limits.
    """

    __slots__ = ("_max_paths", "_max_steps", "_paths", "_steps")

    def __init__(self, paths: int = MAX_PATHS, steps: int = MAX_STEPS) -> None:
        self._max_paths = paths
        self._max_steps = steps
        self._paths = 0
        self._steps = 0

    def path(self) -> None:
        """Count a path that was not there before.

        Raises:
            LimitExceeded: it is one too many.
        """
        self._paths += 1
        if self._paths > self._max_paths:
            raise LimitExceeded("the size of all file trees", self._max_paths, self._paths, "paths")

    def steps(self, count: int) -> None:
        """Count the names in a link that is followed.

        Raises:
            LimitExceeded: those are too many.
        """
        self._steps += count
        if self._steps > self._max_steps:
            what = "the way through symbolic links"
            raise LimitExceeded(what, self._max_steps, self._steps, "names")
