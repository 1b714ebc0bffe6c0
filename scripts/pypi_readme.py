"""Build hook: the README with absolute links, as PyPI shows it outside the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: A link to a file of the repository, not to another site or to a heading of the same page.
_RELATIVE = re.compile(r"\]\((?![a-z]+:|#)([^)\s]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Sets the `readme` of the project."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Read README.md and resolve its links against the repository of `[project.urls]`."""
        base = f"{metadata['urls']['Repository']}/blob/main"
        text = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": _RELATIVE.sub(rf"]({base}/\1)", text),
        }
