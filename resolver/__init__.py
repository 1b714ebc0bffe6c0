"""resolver: which image is this tag, really, on that platform?

The names in `__all__` are public and stable; they are loaded on first use, so that importing the
package costs nothing (PEP 562).

    with resolver.Session() as session:
        found = session.resolve("alpine:3.20", platform="linux/arm64")
        print(found.manifest.digest, found.grade)
"""

from __future__ import annotations

from resolver._version import __version__

#: Type checkers know this name; importing `typing` for it would cost a third of `--version`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from resolver.core.check.check import Checked, Requirements
    from resolver.core.compare.compare import Comparison, ImageComparison, Thresholds
    from resolver.core.lint.findings import Finding, Rule, Severity
    from resolver.core.lint.lint import Linted
    from resolver.core.lockfile.drift import LockCheck
    from resolver.core.lockfile.lock import Lock, Locked
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.reference import Reference
    from resolver.core.pin.decide import Pin, Pinned, PinnedFile
    from resolver.core.platforms.platform import Grade, Platform
    from resolver.core.platforms.select import Rejection, Selection, select
    from resolver.core.registry.challenge import Challenge, parse_challenge
    from resolver.core.results.account import Repositories
    from resolver.core.results.attestations import Attestations, TrustOptions
    from resolver.core.results.copy import Copied, CopyPlan, IndexWritten, Synced
    from resolver.core.results.export import Exported
    from resolver.core.results.matrix import Matrix
    from resolver.core.results.needs import Needs
    from resolver.core.results.plan import Plan
    from resolver.core.results.pull import Pulled
    from resolver.core.results.resolve import Failure, Inspection, Offer, Offers, Resolution
    from resolver.core.results.store import (
        Collected,
        DiskUsage,
        Removed,
        Retention,
        StoredImage,
        Verified,
    )
    from resolver.errors import ResolverError
    from resolver.session import Session
    from resolver.settings import Flags


_HOMES = {
    "Attestations": "resolver.core.results.attestations",
    "Challenge": "resolver.core.registry.challenge",
    "Checked": "resolver.core.check.check",
    "Collected": "resolver.core.results.store",
    "Comparison": "resolver.core.compare.compare",
    "Copied": "resolver.core.results.copy",
    "CopyPlan": "resolver.core.results.copy",
    "Descriptor": "resolver.core.oci.descriptor",
    "Digest": "resolver.core.oci.digest",
    "DiskUsage": "resolver.core.results.store",
    "Exported": "resolver.core.results.export",
    "Failure": "resolver.core.results.resolve",
    "Finding": "resolver.core.lint.findings",
    "Flags": "resolver.settings",
    "Grade": "resolver.core.platforms.select",
    "ImageComparison": "resolver.core.compare.compare",
    "IndexWritten": "resolver.core.results.copy",
    "Inspection": "resolver.core.results.resolve",
    "Linted": "resolver.core.lint.lint",
    "Lock": "resolver.core.lockfile.lock",
    "LockCheck": "resolver.core.lockfile.drift",
    "Locked": "resolver.core.lockfile.lock",
    "Matrix": "resolver.core.results.matrix",
    "Needs": "resolver.core.results.needs",
    "Offer": "resolver.core.results.resolve",
    "Offers": "resolver.core.results.resolve",
    "Pin": "resolver.core.pin.decide",
    "Pinned": "resolver.core.pin.decide",
    "PinnedFile": "resolver.core.pin.decide",
    "Plan": "resolver.core.results.plan",
    "Platform": "resolver.core.platforms.platform",
    "Pulled": "resolver.core.results.pull",
    "Reference": "resolver.core.oci.reference",
    "Rejection": "resolver.core.platforms.select",
    "Removed": "resolver.core.results.store",
    "Repositories": "resolver.core.results.account",
    "Requirements": "resolver.core.check.check",
    "Resolution": "resolver.core.results.resolve",
    "ResolverError": "resolver.errors",
    "Retention": "resolver.core.results.store",
    "Rule": "resolver.core.lint.findings",
    "Selection": "resolver.core.platforms.select",
    "Session": "resolver.session",
    "Severity": "resolver.core.lint.findings",
    "StoredImage": "resolver.core.results.store",
    "Synced": "resolver.core.results.copy",
    "Thresholds": "resolver.core.compare.compare",
    "TrustOptions": "resolver.core.results.attestations",
    "Verified": "resolver.core.results.store",
    "parse_challenge": "resolver.core.registry.challenge",
    "select": "resolver.core.platforms.select",
}

__all__ = [
    "Attestations",
    "Challenge",
    "Checked",
    "Collected",
    "Comparison",
    "Copied",
    "CopyPlan",
    "Descriptor",
    "Digest",
    "DiskUsage",
    "Exported",
    "Failure",
    "Finding",
    "Flags",
    "Grade",
    "ImageComparison",
    "IndexWritten",
    "Inspection",
    "Linted",
    "Lock",
    "LockCheck",
    "Locked",
    "Matrix",
    "Needs",
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
    "Repositories",
    "Requirements",
    "Resolution",
    "ResolverError",
    "Retention",
    "Rule",
    "Selection",
    "Session",
    "Severity",
    "StoredImage",
    "Synced",
    "Thresholds",
    "TrustOptions",
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
