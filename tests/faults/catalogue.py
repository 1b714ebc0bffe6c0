"""The catalogue of faults: its verbs as commands, and the cases without a test.

{PULL} is `pull -p linux/amd64`, {GC} is `gc`, {VERIFY} is `verify`, whose finding is status 1 and
not INTEGRITY: a check that finds damage has not failed. {RESOLVE} cached or offline is
`resolve --offline`. {COMPARE} is `export` to a folder, which
reads all content of an image. There is no `--timeout` and no `--lock-timeout`: tests shorten the
limits themselves.
"""

from __future__ import annotations

#: The areas that this folder tests.
AREAS = ("blob", "store", "concurrency", "fault")

#: Cases without a test, and why.
RECORDED: dict[str, str] = {}
