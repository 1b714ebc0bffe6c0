"""The environment variables of resolver, one row each.

`doctor` recognises unknown names by this table. A test compares it with the code and with
`resolver help configuration`.
"""

from __future__ import annotations

from typing import NamedTuple

#: The prefix of all names.
PREFIX = "RESOLVER_"


class Variable(NamedTuple):
    """One variable; the value of an `is_secret` one is never shown, not even in part."""

    name: str
    option: str
    is_secret: bool = False


#: Each with its option; empty if there is none.
VARIABLES = {
    row.name: row
    for row in (
        Variable("RESOLVER_ANONYMOUS", "--anonymous"),
        Variable("RESOLVER_AUTH_FILE", "--auth-file"),
        Variable("RESOLVER_CA_FILE", "--ca-file"),
        Variable("RESOLVER_CERTS_D", ""),
        Variable("RESOLVER_CHUNKS", "--chunks"),
        Variable("RESOLVER_CHUNK_GAP", "--chunk-gap"),
        Variable("RESOLVER_CLUSTER", "--cluster"),
        Variable("RESOLVER_CLUSTER_JOBS", "--cluster-jobs"),
        Variable("RESOLVER_CONFIG", ""),
        Variable("RESOLVER_DEBUG", ""),
        Variable("RESOLVER_EMIT", "--emit"),
        Variable("RESOLVER_EXACT", "--exact"),
        Variable("RESOLVER_FOREIGN", "--foreign"),
        Variable("RESOLVER_FORMAT", "--format"),
        Variable("RESOLVER_FROM", "--from"),
        Variable("RESOLVER_HTTP", ""),
        Variable("RESOLVER_JOBS", "--jobs"),
        # Read by `scripts/ci/gitlab.yml`: the package to install.
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
        Variable("RESOLVER_PREFER", "--prefer"),
        Variable("RESOLVER_PROGRESS", "pull --progress"),
        Variable("RESOLVER_QUIET", "--quiet"),
        Variable("RESOLVER_REFERRERS", "--referrers"),
        Variable("RESOLVER_REPORT", "--report"),
        Variable("RESOLVER_SHARD", "--shard"),
        Variable("RESOLVER_SHARED_STORE", "--shared-store"),
        Variable("RESOLVER_STORE", "--store"),
        Variable("RESOLVER_STRICT", "--strict"),
        Variable("RESOLVER_TIER", "pull --tier"),
        Variable("RESOLVER_TIER_WRITE", "pull --tier-write"),
        Variable("RESOLVER_TLS_SKIP_VERIFY", "--tls-skip-verify"),
        Variable("RESOLVER_UNSAFE_NO_LOCK", "--unsafe-no-lock"),
        Variable("RESOLVER_USERNAME", "--username", is_secret=True),
        Variable("RESOLVER_VERIFY", "--verify"),
        Variable("RESOLVER_VERIFY_TAG", "--verify-tag"),
    )
}
