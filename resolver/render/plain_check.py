"""Plain values of checking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.answer import Failure
from resolver.render.plain import bare, failure, warnings
from resolver.render.plain_lint import finding

if TYPE_CHECKING:
    from resolver.core.checked import Checked, CheckedImage
    from resolver.render.plain import Plain


def plain(answer: Checked) -> Plain:
    """Turn what was checked into plain values."""
    return {
        "passed": answer.passed,
        "findings": [finding(each) for each in answer.findings],
        "images": [_image(each) for each in answer.images],
    }


def pairs(answer: Checked) -> list[tuple[str, str]]:
    """Give the digest and the name of what was checked, an image a pair, `-` for a failure."""
    return [
        ("-", "-")
        if isinstance(image, Failure)
        else (str(image.root.digest), image.pinned or str(image.root.digest))
        for image in answer.images
    ]


def _image(value: CheckedImage | Failure) -> Plain:
    if isinstance(value, Failure):
        return {"reference": value.reference, **failure(value.error)}
    return {
        "reference": value.reference,
        "root": bare(value.root),
        "pinned": value.pinned or None,
        "passed": value.passed,
        "platforms": list(value.platforms),
        "ignored": value.ignored,
        "warnings": warnings(value.warnings),
    }
