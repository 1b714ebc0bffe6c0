"""Plain values of file trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.plain import Rows

if TYPE_CHECKING:
    from resolver.core.file_difference import (
        FileComparison,
        FileDifference,
        FileFacts,
        TreeComparison,
        TreeSummary,
    )
    from resolver.render.plain import Plain


def files(found: FileComparison) -> Plain:
    """Write what differs between trees, all of it."""
    return {
        "same": found.is_same,
        "base": _tree(found.base),
        "others": [_other(tree) for tree in found.others],
    }


def _tree(tree: TreeSummary) -> Plain:
    return {
        "name": tree.label,
        "files": tree.files,
        "folders": tree.folders,
        "links": tree.links,
        "size": tree.size,
        "programs": dict(tree.programs),
        "strangers": Rows(_facts, tree.strangers),
        "packages": [
            {
                "manager": each.manager,
                "name": each.name,
                "version": each.version,
                "architecture": each.architecture,
            }
            for each in tree.packages
        ],
        "unread": [{"path": path, "reason": reason} for path, reason in tree.unread],
        "warnings": list(tree.warnings),
    }


def _other(tree: TreeComparison) -> Plain:
    return {
        **_tree(tree.summary),
        "same": tree.same,
        **({"notCompared": tree.not_compared} if tree.not_compared else {}),
        "counts": {change.value: count for change, count in tree.counts},
        "rebuilt": {
            "files": tree.rebuilt,
            "from": tree.rebuilt_size[0],
            "to": tree.rebuilt_size[1],
        },
        "differences": Rows(_difference, tree.differences),
        "folderDeltas": [
            {"path": each.path, "from": each.before, "to": each.after, "delta": each.delta}
            for each in tree.folders
        ],
        "packageDifferences": [
            {
                "manager": each.manager,
                "name": each.name,
                "from": list(each.before),
                "to": list(each.after),
            }
            for each in tree.packages
        ],
        "samePackages": tree.same_packages,
    }


def _difference(difference: FileDifference) -> Plain:
    return {
        "path": difference.path,
        "changes": [change.value for change in difference.changes],
        **({"xattrs": list(difference.xattrs)} if difference.xattrs else {}),
        "from": _facts(difference.before),
        "to": _facts(difference.after),
    }


def _facts(facts: FileFacts | None) -> Plain | None:
    if facts is None:
        return None
    written: Plain = {
        "path": facts.path,
        "kind": facts.kind,
        "mode": f"{facts.mode:04o}",
        "uid": facts.uid,
        "gid": facts.gid,
        "size": facts.size,
    }
    if facts.sha256:
        written["sha256"] = facts.sha256
    if facts.link:
        written["link"] = facts.link
    if facts.device is not None:
        written["device"] = list(facts.device)
    if facts.program is not None:
        written["program"] = str(facts.program)
    if facts.xattrs:
        written["xattrs"] = dict(facts.xattrs)
    return written
