"""Every variable of ours, and those of others that are honoured: one row each, in a few words.

`doctor` tells an unknown name from a known one by this table, and `resolver help configuration`
says the same; a test compares it with what the code reads.
"""

from __future__ import annotations

from typing import NamedTuple

#: What all of our own begin with.
PREFIX = "RESOLVER_"


class Variable(NamedTuple):
    """One variable; `is_secret`: its value is never shown, not even in part."""

    name: str
    option: str
    is_secret: bool = False


#: Our own, with the option that says the same; empty where there is none.
VARIABLES = {
    row.name: row
    for row in (
        Variable("RESOLVER_ANONYMOUS", "--anonymous"),
        Variable("RESOLVER_AUTH_FILE", "--auth-file"),
        Variable("RESOLVER_CA_FILE", "--ca-file"),
        Variable("RESOLVER_CERTS_D", ""),
        Variable("RESOLVER_CONFIG", ""),
        Variable("RESOLVER_DEBUG", ""),
        Variable("RESOLVER_EMIT", "--emit"),
        Variable("RESOLVER_EXACT", "--exact"),
        Variable("RESOLVER_FOREIGN", "--foreign"),
        Variable("RESOLVER_FORMAT", "--format"),
        Variable("RESOLVER_FROM", "--from"),
        Variable("RESOLVER_JOBS", "--jobs"),
        # Of `scripts/ci/gitlab.yml`: what it installs.
        Variable("RESOLVER_INSTALL", ""),
        Variable("RESOLVER_JOB_STARTED", "gc --ci"),
        Variable("RESOLVER_LINT_FAIL_ON", "lint --fail-on"),
        Variable("RESOLVER_LINT_IGNORE", "lint --ignore"),
        Variable("RESOLVER_LINT_MAX_BYTES", "lint --max-bytes"),
        Variable("RESOLVER_LISTEN", "serve --listen"),
        Variable("RESOLVER_LOCKED", "--locked"),
        Variable("RESOLVER_LOCK_FILE", "--lock-file"),
        Variable("RESOLVER_MAX_DOWNLOAD", "--max-download"),
        Variable("RESOLVER_MAX_REQUESTS", "tags --max-requests"),
        Variable("RESOLVER_MIRROR", "--mirror"),
        Variable("RESOLVER_NO_ATTESTATIONS", "--no-attestations"),
        Variable("RESOLVER_NO_FSYNC", "--no-fsync"),
        Variable("RESOLVER_NO_PROGRESS", "--no-progress"),
        Variable("RESOLVER_OFFLINE", "--offline"),
        Variable("RESOLVER_PASSWORD", "--password-stdin", is_secret=True),
        Variable("RESOLVER_PLAIN_HTTP", "--plain-http"),
        Variable("RESOLVER_PLATFORM", "--platform"),
        Variable("RESOLVER_PLATFORMS", "--platforms-file"),
        Variable("RESOLVER_PROGRESS", "pull --progress"),
        Variable("RESOLVER_QUIET", "--quiet"),
        Variable("RESOLVER_REFERRERS", "--referrers"),
        Variable("RESOLVER_REPORT", "--report"),
        Variable("RESOLVER_SHARED_STORE", "--shared-store"),
        Variable("RESOLVER_STORE", "--store"),
        Variable("RESOLVER_STRICT", "--strict"),
        Variable("RESOLVER_TLS_SKIP_VERIFY", "--tls-skip-verify"),
        Variable("RESOLVER_UNSAFE_NO_LOCK", "--unsafe-no-lock"),
        Variable("RESOLVER_USERNAME", "--username", is_secret=True),
        Variable("RESOLVER_VERIFY", "--verify"),
        Variable("RESOLVER_VERIFY_TAG", "--verify-tag"),
    )
}
