"""One process that reads and compares the files of every platform of an image in a layout.

    files_process.py oci:FOLDER:TAG

`scripts/bench compare` runs it.
"""

from __future__ import annotations

import sys

from resolver.core.file_comparison import compare_trees
from resolver.core.target import parse_target
from resolver.flow.files import LayeredImage, read_trees
from resolver.flow.gather import Depth
from resolver.session import Session


def main() -> None:
    """Compare, and print one line."""
    name = sys.argv[1]
    with Session() as session:
        gathered = session._gather(name, Depth()).sound()  # noqa: SLF001 - no verb does it yet
        content = session._source(parse_target(name))  # noqa: SLF001 - likewise
        images = [
            LayeredImage.of(part, str(part.platform), f"`{name}`", content)
            for part in gathered.images
        ]
        trees = read_trees(images)
        found = compare_trees(trees[0], trees[1:], session.table)
    other = found.others[0]
    print(f"{found.base.files} files, {len(other.differences)} differ, {other.rebuilt} rebuilt")


if __name__ == "__main__":
    main()
