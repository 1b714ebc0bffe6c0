"""Plain values of comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.comparison import Comparison
from resolver.core.dimensions import DIMENSIONS, Dimension, Unit
from resolver.render.plain import bare, platform, warnings
from resolver.render.plain_files import files

if TYPE_CHECKING:
    from resolver.core.builds import Build
    from resolver.core.comparison import ImageComparison, PlatformChange, Reason
    from resolver.core.drift import Drift
    from resolver.core.history_alignment import History, Row, Step
    from resolver.core.platform import Platform
    from resolver.core.sharing import Amount, Group
    from resolver.render.plain import Plain


def plain(answer: Comparison | ImageComparison) -> Plain:
    """Turn a comparison into plain values."""
    return _comparison(answer) if isinstance(answer, Comparison) else _images(answer)


def pairs(answer: Comparison | ImageComparison) -> None:
    """Give nothing: a comparison is about images, and names none."""
    del answer


def _comparison(answer: Comparison) -> Plain:
    sharing = answer.sharing
    names = [build.name for build in answer.builds]
    return {
        "reference": answer.reference,
        "root": bare(answer.root),
        "base": names[answer.base],
        "platforms": [_build(answer, position) for position in range(len(names))],
        "sharing": {
            "stored": _amount(sharing.stored),
            "summed": _amount(sharing.summed),
            "matrix": [[_amount(each) for each in row] for row in sharing.matrix],
            "groups": [_group(group, names) for group in sharing.groups],
        },
        "drift": [_drift(drift, names) for drift in answer.drift],
        "history": _history(answer.history, names),
        "files": files(answer.files) if answer.files is not None else None,
        "expected": [_expected(each) for each in answer.expected],
        "missing": [_expected(each) for each in answer.missing],
        "reasons": [_reason(reason) for reason in answer.reasons],
        "warnings": warnings(answer.warnings),
    }


def _group(group: Group, names: list[str]) -> Plain:
    return {
        "platforms": [names[position] for position in group.holders],
        "digests": [str(digest) for digest in group.digests],
        **_amount(group.amount),
    }


def _build(answer: Comparison, position: int) -> Plain:
    """Write a build: where it stands among the others, then what it is in every dimension."""
    build, ratio = answer.builds[position], answer.ratio(position)
    return {
        **_identity(build),
        "delta": answer.delta(position),
        "ratio": round(ratio, 4) if ratio is not None else None,
        "shared": _amount(answer.sharing.shared(position)),
        "own": _amount(answer.sharing.own[position]),
        "dimensions": {each.name: _value(each, build) for each in DIMENSIONS},
        "layers": [bare(layer) for layer in build.manifest.layers],
    }


def _identity(build: Build) -> Plain:
    return {
        "name": build.name,
        "platform": platform(build.platform) if build.platform is not None else None,
        "manifest": bare(build.descriptor),
        "config": str(build.config_digest),
        "created": build.config.created or None,
        "size": build.size,
    }


def _value(dimension: Dimension, build: Build) -> object:
    """Write a value: pairs as an object, names and words as a list."""
    look = dimension.look(build)
    if not isinstance(look, tuple):
        return look
    if dimension.unit is not Unit.PAIRS:
        return list(look)
    return dict(each for each in look if isinstance(each, tuple))


def _amount(amount: Amount) -> Plain:
    return {"layers": amount.layers, "bytes": amount.bytes}


def _drift(drift: Drift, names: list[str]) -> Plain:
    return {
        "name": drift.name,
        "dimension": drift.dimension,
        "key": drift.key or None,
        "values": [
            {
                "value": list(value) if isinstance(value, tuple) else value,
                "platforms": [names[position] for position in holders],
            }
            for value, holders in drift.groups
        ],
    }


def _history(history: History, names: list[str]) -> Plain:
    reasons = zip(names, history.unmatched, strict=True)
    return {
        "steps": [_row(row, names) for row in history.rows],
        "unmatched": [{"platform": name, "reason": why} for name, why in reasons if why],
    }


def _row(row: Row, names: list[str]) -> Plain:
    return {
        "instruction": row.instruction,
        "same": row.is_same,
        "platforms": [
            {"platform": name, **_step(step)}
            for name, step in zip(names, row.steps, strict=True)
            if step is not None
        ],
    }


def _step(step: Step) -> Plain:
    return {
        "position": step.position,
        "instruction": step.instruction,
        "layer": bare(step.layer) if step.layer is not None else None,
    }


def _images(answer: ImageComparison) -> Plain:
    return {
        "from": {"reference": answer.first, "root": bare(answer.first_root)},
        "to": {"reference": answer.second, "root": bare(answer.second_root)},
        "same": answer.is_same,
        "platforms": [_change(change) for change in answer.changes],
        "fetch": _amount(answer.fetch),
        "expected": [_expected(each) for each in answer.expected],
        "missing": [_expected(each) for each in answer.missing],
        "reasons": [_reason(reason) for reason in answer.reasons],
        "warnings": warnings(answer.warnings),
    }


def _change(change: PlatformChange) -> Plain:
    sides = ["from", "to"]
    written: Plain = {
        "name": change.name,
        "change": change.change.value,
        "from": _side(change.before),
        "to": _side(change.after),
        "delta": change.delta,
        "fetch": _amount(change.fetch),
        "layersDiffer": change.layers_differ,
        "drift": [_drift(drift, sides) for drift in change.drift],
    }
    if change.history is not None:
        written["history"] = _history(change.history, sides)
    if change.files is not None:
        written["files"] = files(change.files)
    return written


def _side(build: Build | None) -> Plain | None:
    if build is None:
        return None
    return {**_identity(build), "layers": [bare(layer) for layer in build.manifest.layers]}


def _expected(value: Platform) -> str:
    return str(value)


def _reason(reason: Reason) -> Plain:
    return {
        "aspect": reason.aspect,
        "platform": reason.platform or None,
        "message": reason.message,
    }
