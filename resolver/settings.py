"""Settings: flags over environment over defaults, decided once.

No other part of the library reads the environment; each receives the values it needs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from resolver.errors import InvalidConfiguration, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Requests in parallel for one image, and references in parallel, unless `--jobs` is given. To one
#: host, as many of them are under way as it can take.
DEFAULT_JOBS, BATCH_JOBS = 16, 64
#: The HTTP libraries that can be chosen.
_HTTP = ("pyreqwest", "httpx")
#: Variables that set the default platform; the first that is set is used.
_PLATFORM = ("RESOLVER_PLATFORM", "DOCKER_DEFAULT_PLATFORM")
#: Path of the lock file unless another is given.
LOCK_FILE = "resolver.lock"
#: Bytes of layers that `lint` reads for each platform by default: more than precede a program in
#: usual base images.
LINT_MAX_BYTES = 32 << 20
#: Hits of a search. Source: Docker Engine API, `/images/search`.
SEARCH_LIMIT = 25
#: What Docker Hub keeps for questions about quotas. Source: Docker documentation, "Pull usage".
QUOTA_PREVIEW = "docker.io/ratelimitpreview/test:latest"
#: Seconds for which `serve` uses the digest of a tag without asking the registry again.
SERVE_FRESH = 60.0
#: Seconds for which a manifest that was pushed to `serve --writable` without a tag is kept.
KEEP_UNTAGGED = 86_400.0
MAX_JOBS = 256
#: Files that a process of ours has open by itself, and for each question or transfer under way.
_OWN_FILES, _FILES_EACH = 24, 8
#: The compression of the image to choose where a platform is listed twice; empty for the first.
Prefer = Literal["zstd", "gzip", ""]
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True, eq=False)
class Flags:
    """Values from a command line or a library caller; None where none was given."""

    store: str | None = None
    offline: bool | None = None
    plain_http: bool | None = None
    tls_skip_verify: bool | None = None
    ca_file: str | None = None
    auth_file: str | None = None
    anonymous: bool | None = None
    username: str | None = None
    password: str | None = None
    jobs: int | str | None = None
    cluster_jobs: int | str | None = None
    platforms_file: str | None = None
    prefer: str | None = None
    no_fsync: bool | None = None
    unsafe_no_lock: bool | None = None
    shared_store: bool | None = None
    mirrors: Sequence[str] | None = None
    tier: str | None = None
    tier_write: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """The settings of one session, fixed before its first request.

    Attributes:
        store: folder of the local store.
        platform: value of `RESOLVER_PLATFORM` or `DOCKER_DEFAULT_PLATFORM`; None if neither is set.
        platform_named_by: the variable that set `platform`; empty if neither is set.
        jobs: requests in parallel, 1 to 256.
        batch_jobs: references in parallel, and most requests to one host.
        jobs_given: `jobs` was chosen, and is not the default.
        cluster_jobs: most requests to one registry over all workers of a cluster.
        http: the HTTP library to use; empty for the best one that is installed.
        environment: for proxies, trust and credential files; a copy, taken once.
        fsync: False trades durability of the store after a power cut for speed.
        lock: False if the caller guarantees that no other process uses the store.
        shared_store: trust every user who can write to the store.
        prefer: compression of the image to choose where a platform is listed twice; empty for the
            first in the index.
        mirrors: `HOST=URL` entries; they take precedence over configuration files.
        tier: URL of a tier of blobs, looked at before registries by the verbs that fetch content;
            empty for the one of `config.yaml`, if any.
        tier_write: put what is fetched there.
        password: never printed: the `repr` of `Settings` omits it.

    """

    store: Path
    offline: bool
    plain_http: bool
    tls_skip_verify: bool
    ca_file: Path | None
    auth_file: Path | None
    anonymous: bool
    username: str | None
    password: str | None
    jobs: int
    batch_jobs: int
    jobs_given: bool
    cluster_jobs: int
    http: str
    platform: str | None
    platform_named_by: str
    platforms_file: Path | None
    prefer: Prefer
    fsync: bool
    lock: bool
    shared_store: bool
    mirrors: tuple[str, ...]
    tier: str
    tier_write: bool
    environment: Mapping[str, str]
    home: Path | None

    def __repr__(self) -> str:
        return f"Settings(store={str(self.store)!r})"

    @classmethod
    def load(cls, flags: Flags, environment: Mapping[str, str] | None = None) -> Settings:
        """Join flags, `RESOLVER_…` variables and defaults.

        Raises:
            Usage: a flag's value cannot be used.
            InvalidConfiguration: a variable's value cannot be used.

        """
        env = dict(os.environ if environment is None else environment)
        username = flags.username or env.get("RESOLVER_USERNAME") or None
        password = flags.password or env.get("RESOLVER_PASSWORD") or None
        if (username is None) != (password is None):
            raise Usage(
                "a user name and a password go together",
                "give `--username NAME --password-stdin`, or neither",
            )
        jobs = _number(flags.jobs, env, "--jobs")
        named = next((name for name in _PLATFORM if env.get(name)), "")
        return cls(
            store=_store(flags.store, env),
            offline=_switch(flags.offline, env, "RESOLVER_OFFLINE"),
            plain_http=_switch(flags.plain_http, env, "RESOLVER_PLAIN_HTTP"),
            tls_skip_verify=_switch(flags.tls_skip_verify, env, "RESOLVER_TLS_SKIP_VERIFY"),
            ca_file=_file(flags.ca_file, env, "RESOLVER_CA_FILE", "--ca-file"),
            auth_file=_path(flags.auth_file, env, "RESOLVER_AUTH_FILE"),
            anonymous=_switch(flags.anonymous, env, "RESOLVER_ANONYMOUS"),
            username=username,
            password=password,
            jobs=_bounded(jobs or DEFAULT_JOBS),
            batch_jobs=_bounded(jobs or BATCH_JOBS),
            jobs_given=jobs is not None,
            cluster_jobs=_number(flags.cluster_jobs, env, "--cluster-jobs") or BATCH_JOBS,
            http=_http(env),
            platform=env.get(named) or None,
            platform_named_by=named,
            platforms_file=_path(flags.platforms_file, env, "RESOLVER_PLATFORMS"),
            prefer=_prefer(flags.prefer, env),
            fsync=not _switch(flags.no_fsync, env, "RESOLVER_NO_FSYNC"),
            lock=not _switch(flags.unsafe_no_lock, env, "RESOLVER_UNSAFE_NO_LOCK"),
            shared_store=_switch(flags.shared_store, env, "RESOLVER_SHARED_STORE"),
            mirrors=_mirrors(flags.mirrors, env),
            tier=flags.tier or env.get("RESOLVER_TIER", ""),
            tier_write=_switch(flags.tier_write, env, "RESOLVER_TIER_WRITE"),
            environment=env,
            home=_home(env),
        )


def _home(env: Mapping[str, str]) -> Path | None:
    home = env.get("HOME") or env.get("USERPROFILE")
    return Path(home) if home else None


def _mirrors(flag: Sequence[str] | None, env: Mapping[str, str]) -> tuple[str, ...]:
    """Read `HOST=URL`, each in a word of its own; what a URL may be is checked where it is used."""
    chosen = list(flag or ()) or env.get("RESOLVER_MIRROR", "").replace(",", " ").split()
    for each in chosen:
        host, _, url = each.partition("=")
        if host and url:
            continue
        example = "docker.io=https://mirror.example.com"
        if flag:
            raise Usage(f"`--mirror {each}` is not `HOST=URL`", f"write `--mirror {example}`")
        raise InvalidConfiguration(
            "RESOLVER_MIRROR", "", f"it must be `HOST=URL`, for example `{example}`"
        )
    return tuple(chosen)


def _prefer(flag: str | None, env: Mapping[str, str]) -> Prefer:
    chosen = flag or env.get("RESOLVER_PREFER", "")
    match chosen:
        case "zstd" | "gzip" | "":
            return chosen
        case _ if flag:
            raise Usage(f"`--prefer {flag}` is not known", "choose `zstd` or `gzip`")
        case _:
            raise InvalidConfiguration("RESOLVER_PREFER", "", "it must be `zstd` or `gzip`")


def _store(flag: str | None, env: Mapping[str, str]) -> Path:
    chosen = flag or env.get("RESOLVER_STORE")
    if chosen:
        return Path(chosen)
    xdg = env.get("XDG_CACHE_HOME")
    if xdg and Path(xdg).is_absolute():
        # What platformdirs answers too where this variable is set, without its import.
        return Path(xdg, "resolver", "v1")
    import platformdirs  # noqa: PLC0415 - 10 ms, not needed once a place is named

    return platformdirs.user_cache_path("resolver") / "v1"


def _switch(flag: bool | None, env: Mapping[str, str], name: str) -> bool:  # noqa: FBT001 - as typed
    if flag is not None:
        return flag
    text = env.get(name, "").strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise InvalidConfiguration(name, "", "it must be 1 or 0")


def _path(flag: str | None, env: Mapping[str, str], name: str) -> Path | None:
    chosen = flag or env.get(name)
    return Path(chosen) if chosen else None


def _file(flag: str | None, env: Mapping[str, str], name: str, option: str) -> Path | None:
    path = _path(flag, env, name)
    if path is None:
        return None
    if not path.is_file():
        raise Usage(
            f"`{path}` is not a readable file",
            f"name a PEM file with `{option}` or `{name}`",
        )
    return path


def _bounded(jobs: int) -> int:
    """Limit parallel requests to the files this process may open, some eight for each."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return jobs
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return jobs
    return min(jobs, max(1, (soft - _OWN_FILES) // _FILES_EACH))


def _http(env: Mapping[str, str]) -> str:
    chosen = env.get("RESOLVER_HTTP", "").strip().lower()
    if chosen and chosen not in _HTTP:
        raise InvalidConfiguration("RESOLVER_HTTP", "", f"it must be {' or '.join(_HTTP)}")
    return chosen


def _number(flag: int | str | None, env: Mapping[str, str], option: str) -> int | None:
    """Read a number of parallel requests, in ASCII digits; None if it was not given."""
    variable = f"RESOLVER_{option[2:].replace('-', '_').upper()}"
    text = env.get(variable, "") if flag is None else str(flag)
    if flag is None and not text:
        return None
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_JOBS))
    if digits and 1 <= int(text) <= MAX_JOBS:
        return int(text)
    if flag is None:
        raise InvalidConfiguration(variable, "", f"it must be a number from 1 to {MAX_JOBS}")
    raise Usage(f"`{option} {text}` is out of range", f"choose a number from 1 to {MAX_JOBS}")
