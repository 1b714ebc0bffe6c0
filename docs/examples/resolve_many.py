"""Resolve many references for one platform, in parallel; a failure does not end the others.

Usage: `python resolve_many.py linux/arm64 alpine:3.20 redis:7`
"""

from __future__ import annotations

import sys

import resolver


def main(platform: str, references: list[str]) -> int:
    """Print the digest of each reference; return the highest exit status."""
    worst = 0
    with resolver.Session() as session:
        for found in session.resolve_each(references, platform):
            if isinstance(found, resolver.Failure):
                print(f"{found.reference}: {found.error.code}: {found.error}", file=sys.stderr)
                worst = max(worst, found.error.kind.status)
            else:
                print(found.manifest.digest, found.platform, found.reference)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
