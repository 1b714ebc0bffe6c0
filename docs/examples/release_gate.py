"""Fail unless an image is offered for the required platforms; print the findings as JSON.

Usage: `python release_gate.py alpine:3.20 linux/amd64 linux/arm/v7`
"""

from __future__ import annotations

import json
import sys

import resolver


def main(reference: str, platforms: list[str]) -> int:
    """Check one image and return the exit status."""
    requirements = resolver.Requirements(require=platforms, lint=resolver.Severity.ERROR)
    with resolver.Session() as session:
        checked = session.check(reference, requirements)
    print(json.dumps(resolver.to_dict(checked), indent=2))
    return 0 if checked.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
