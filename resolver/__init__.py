"""resolver: which image is this tag, really, on that platform?

The names in `__all__` are public and stable; they are loaded on first use, so that importing the
package costs nothing (PEP 562).

    with resolver.Session() as session:
        found = session.resolve("alpine:3.20", platform="linux/arm64")
        print(found.manifest.digest, found.grade)
"""

from __future__ import annotations

#: Type checkers know this name; importing `typing` for it would cost a third of `--version`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from resolver.core.answer import Failure, Resolution
    from resolver.core.challenge import Challenge, parse_challenge
    from resolver.core.checked import Checked
    from resolver.core.comparison import Comparison, ImageComparison
    from resolver.core.contents import Inspection, Offer, Offers
    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest
    from resolver.core.exported import Exported
    from resolver.core.findings import Finding, Rule, Severity
    from resolver.core.linted import Linted
    from resolver.core.lock import Lock, Locked
    from resolver.core.lock_check import LockCheck
    from resolver.core.matrix import Matrix
    from resolver.core.pinned import Pin, Pinned, PinnedFile
    from resolver.core.plan import Plan
    from resolver.core.platform import Platform
    from resolver.core.pulled import Pulled
    from resolver.core.reference import Reference
    from resolver.core.requirements import Requirements
    from resolver.core.select import Grade, Rejection, Selection, select
    from resolver.core.stored import (
        Collected,
        Removed,
        Retention,
        StoredImage,
        Usage,
        Verified,
    )
    from resolver.core.thresholds import Thresholds
    from resolver.errors import ResolverError
    from resolver.session import Session
    from resolver.settings import Flags

__version__ = "0.1.0"

_HOMES = {
    "Challenge": "resolver.core.challenge",
    "Checked": "resolver.core.checked",
    "Collected": "resolver.core.stored",
    "Comparison": "resolver.core.comparison",
    "Descriptor": "resolver.core.descriptor",
    "Digest": "resolver.core.digest",
    "Exported": "resolver.core.exported",
    "Failure": "resolver.core.answer",
    "Finding": "resolver.core.findings",
    "Flags": "resolver.settings",
    "Grade": "resolver.core.select",
    "ImageComparison": "resolver.core.comparison",
    "Inspection": "resolver.core.contents",
    "Linted": "resolver.core.linted",
    "Lock": "resolver.core.lock",
    "LockCheck": "resolver.core.lock_check",
    "Locked": "resolver.core.lock",
    "Matrix": "resolver.core.matrix",
    "Offer": "resolver.core.contents",
    "Offers": "resolver.core.contents",
    "Pin": "resolver.core.pinned",
    "Pinned": "resolver.core.pinned",
    "PinnedFile": "resolver.core.pinned",
    "Plan": "resolver.core.plan",
    "Platform": "resolver.core.platform",
    "Pulled": "resolver.core.pulled",
    "Reference": "resolver.core.reference",
    "Rejection": "resolver.core.select",
    "Removed": "resolver.core.stored",
    "Requirements": "resolver.core.requirements",
    "Resolution": "resolver.core.answer",
    "ResolverError": "resolver.errors",
    "Retention": "resolver.core.stored",
    "Rule": "resolver.core.findings",
    "Selection": "resolver.core.select",
    "Session": "resolver.session",
    "Severity": "resolver.core.findings",
    "StoredImage": "resolver.core.stored",
    "Thresholds": "resolver.core.thresholds",
    "Usage": "resolver.core.stored",
    "Verified": "resolver.core.stored",
    "parse_challenge": "resolver.core.challenge",
    "select": "resolver.core.select",
}

__all__ = [
    "Challenge",
    "Checked",
    "Collected",
    "Comparison",
    "Descriptor",
    "Digest",
    "Exported",
    "Failure",
    "Finding",
    "Flags",
    "Grade",
    "ImageComparison",
    "Inspection",
    "Linted",
    "Lock",
    "LockCheck",
    "Locked",
    "Matrix",
    "Offer",
    "Offers",
    "Pin",
    "Pinned",
    "PinnedFile",
    "Plan",
    "Platform",
    "Pulled",
    "Reference",
    "Rejection",
    "Removed",
    "Requirements",
    "Resolution",
    "ResolverError",
    "Retention",
    "Rule",
    "Selection",
    "Session",
    "Severity",
    "StoredImage",
    "Thresholds",
    "Usage",
    "Verified",
    "__version__",
    "parse_challenge",
    "select",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'resolver' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - when a name is first used

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
