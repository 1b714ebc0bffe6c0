"""The duration of soak tests: short, or long on request."""

from __future__ import annotations

import os
import random

#: RESOLVER_SOAK=1 does everything, in some minutes; RESOLVER_SEED=N repeats a run.
SOAK = os.environ.get("RESOLVER_SOAK") == "1"
_SEED = os.environ.get("RESOLVER_SEED", "")


def times(few: int, many: int) -> int:
    """Choose the number of repetitions."""
    return many if SOAK else few


def seeded(what: str) -> random.Random:
    """Return a random generator whose seed is printed when the test fails."""
    seed = int(_SEED) if _SEED else random.SystemRandom().randrange(1 << 32)
    print(f"{what}: RESOLVER_SEED={seed}")  # noqa: T201 - shown where it matters
    return random.Random(seed)
