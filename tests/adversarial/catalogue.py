"""The catalogue of attacks: its words in ours, and the cases that cannot be shown yet."""

from __future__ import annotations

import json

from tests import DATA

#: The areas that this folder answers for; the others need pull or a store.
AREAS = ("manifest", "index", "auth", "redirect", "cli", "config", "tar")

#: Verbs of the catalogue as words of the command line. A verb that does not exist yet is played by
#: one that reads the same documents: `inspect -p` reads manifest and config, the config as a blob.
VERBS = {
    "RESOLVE": ("resolve",),
    "RESOLVE --verify": ("resolve", "--verify"),
    "RESOLVE --strict": ("resolve", "--strict"),
    "PULL": ("inspect", "-p", "linux/amd64"),
    "PULL --all-platforms": ("resolve", "--verify", "-p", "all"),
    "INSPECT": ("inspect",),
    "TAGS": ("tags",),
    "PLATFORMS": ("platforms",),
    "LOCK": ("lock",),
    "LOCKCHECK": ("lock", "--check"),
}

#: Exit status of each class of failure. Source: architecture.md 2.6, reliability.md R51.
STATUS = {
    "NEGATIVE": 1,
    "USAGE": 2,
    "CONFIG": 2,
    "NOT_FOUND": 3,
    "PLATFORM": 3,
    "AUTH": 4,
    "NETWORK": 5,
    "RATELIMIT": 5,
    "INTEGRITY": 6,
    "FORMAT": 6,
    "UNSUPPORTED": 6,
    "LIMIT": 6,
    "OFFLINE": 7,
    "STORE": 8,
}
#: 128 and the number of SIGINT, and of SIGTERM.
INTERRUPTED, TERMINATED = 130, 143

#: Cases that cannot be shown, and why; `test_catalogue.py` holds this list complete.
RECORDED = {
    "RED-011": "needs pull: only a resumed layer is asked for by Range; Accept is in RED-018",
}


def cases() -> dict[str, str]:
    """Give the cases of our areas: id and title."""
    found: list[dict[str, str]] = json.loads((DATA / "adversarial.json").read_text("utf-8"))
    return {case["id"]: case["title"] for case in found if case["area"] in AREAS}
