"""Rules about references in files."""

from __future__ import annotations

from resolver.core.findings import Rule, Severity

UNPINNED = Rule(
    "unpinned",
    Severity.ERROR,
    "a reference without a digest",
    "What a tag points at can change between two builds. Pin it with `resolver pin`, or write "
    "`# resolver: ignore` above it.",
)
STALE = Rule(
    "stale-pin",
    Severity.ERROR,
    "a digest that its tag no longer points at",
    "The tag has moved since it was pinned. See what changed, then take the new image over with "
    "`resolver pin --update`.",
)
SINGLE_PLATFORM = Rule(
    "single-platform-pin",
    Severity.WARNING,
    "the digest of one platform under a tag of several",
    "The digest names the image of one platform, so the file no longer works on the others that "
    "its tag is offered for. Pin the index with `resolver pin --update`.",
)
PLATFORM_MISSING = Rule(
    "pinned-platform-missing",
    Severity.ERROR,
    "an image without a platform that is needed",
    "The image that is or would be pinned is not offered for a platform that `--require` names, "
    "or that the file itself asks for.",
)
NOT_PINNABLE = Rule(
    "not-pinnable",
    Severity.ERROR,
    "a reference that no digest can be written into",
    "It is put together from variables, or it is no image reference. Write it out in one piece, "
    "or write `# resolver: ignore` above it.",
)
UNKNOWN_KEY = Rule(
    "unknown-key",
    Severity.ERROR,
    "a value that looks like an image, below a key that is not known to take one",
    "It is not edited, since what reads it may not take a digest. Pin it by hand, or write "
    "`# resolver: ignore` above it if it is no image.",
)
UNPARSABLE = Rule(
    "unparsable",
    Severity.ERROR,
    "a file that cannot be read as what it is",
    "Nothing in the file was looked at, and nothing was changed.",
)

#: Every rule, in the order they are told.
RULES = (UNPINNED, STALE, SINGLE_PLATFORM, PLATFORM_MISSING, NOT_PINNABLE, UNKNOWN_KEY, UNPARSABLE)
