"""The catalogue of attacks: its verbs as commands, and the cases tested elsewhere."""

from __future__ import annotations

#: The areas that this folder tests; `tests/faults` tests the others.
AREAS = ("manifest", "index", "auth", "redirect", "cli", "config", "tar")

#: Verbs of the catalogue as words of the command line. PULL is `inspect -p`, which reads the same
#: documents.
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

#: Exit status of each class of failure. Source: docs/architecture.md, "Exit statuses".
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

#: Cases without a test here, and the reason.
RECORDED = {
    "RED-011": "Range is in tests/verbs/test_pull_faults.py; Accept is in RED-018",
}
