"""The config of an image: platform, runtime settings and history."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import PLATFORM_NAMES, read_platform
from resolver.core.oci.manifest import refuse_oversize
from resolver.core.parse.json import Fields, digest, read_object
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from resolver.core.oci.digest import Digest
    from resolver.core.platforms.platform import Platform


# Source: OCI image-spec v1.1.1 config.md; `Healthcheck` is Docker's.
_NAMES = PLATFORM_NAMES | {"created", "author", "config", "rootfs", "history"}
_ROOTFS_NAMES = frozenset({"type", "diff_ids"})
_HISTORY_NAMES = frozenset({"created", "created_by", "author", "comment", "empty_layer"})
_RUN_NAMES = frozenset(
    {
        "User",
        "ExposedPorts",
        "Env",
        "Entrypoint",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Labels",
        "StopSignal",
        "Healthcheck",
    }
)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One build step; texts are as written, empty if absent.

    Attributes:
        empty_layer: the step added no layer.
    """

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The config of an image; texts are as written, empty if absent.

    Attributes:
        platform: as written; None when the operating system or the architecture is missing.
        created: the time as written, normally RFC 3339.
        diff_ids: digests of the uncompressed layers, bottom first.
        env: `NAME=value`, in the order of the document.
        exposed_ports, volumes: sorted.
        labels: sorted pairs.
        healthcheck: Docker's object as compact JSON; empty if absent.
    """

    os: str
    architecture: str
    variant: str
    os_version: str
    os_features: tuple[str, ...]
    platform: Platform | None
    created: str
    author: str
    diff_ids: tuple[Digest, ...]
    history: tuple[HistoryEntry, ...]
    user: str
    working_dir: str
    stop_signal: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    exposed_ports: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    healthcheck: str


def parse_config(body: bytes, what: str, layers: int | None) -> ImageConfig:
    """Parse the config of an image.

    Args:
        body: verified bytes.
        what: the document, for messages: "the config of `ubuntu:24.04`".
        layers: number of layers in the manifest; None if unknown.

    Raises:
        BadDocument: a member is invalid; `field` is its path.
        UnsupportedDocument: a diff ID has an unsupported algorithm.
        LimitExceeded: over 4 MiB, or too deep.
    """
    refuse_oversize(body, what)
    fields = Fields.of(read_object(body, what), what, "", _NAMES)
    platform = read_platform(fields)
    run = fields.child("config", _RUN_NAMES) or Fields(what, "config", {})
    return ImageConfig(
        os=platform.os,
        architecture=platform.architecture,
        variant=platform.variant,
        os_version=platform.os_version,
        os_features=platform.os_features,
        platform=platform if platform.os and platform.architecture else None,
        created=fields.text("created") or "",
        author=fields.text("author") or "",
        diff_ids=_read_diff_ids(fields, layers),
        history=tuple(map(_read_history, fields.children("history", _HISTORY_NAMES))),
        user=run.text("User") or "",
        working_dir=run.text("WorkingDir") or "",
        stop_signal=run.text("StopSignal") or "",
        env=run.texts("Env"),
        entrypoint=run.words("Entrypoint"),
        cmd=run.words("Cmd"),
        exposed_ports=run.names("ExposedPorts"),
        volumes=run.names("Volumes"),
        labels=run.pairs("Labels"),
        healthcheck=_read_healthcheck(run),
    )


def _read_diff_ids(fields: Fields, layers: int | None) -> tuple[Digest, ...]:
    if not any(fields.has(name) for name in ("rootfs", "os", "architecture")):
        # Some artifacts (OPA bundles) have `{}` with the media type of an image config.
        return ()
    if "rootfs" not in fields.members:
        raise fields.bad("rootfs", "required, but missing")
    rootfs = fields.child("rootfs", _ROOTFS_NAMES) or Fields(fields.what, "rootfs", {})
    path = rootfs.at("diff_ids")
    diff_ids = tuple(
        digest(value, fields.what, f"{path}[{position}]")
        for position, value in enumerate(rootfs.array("diff_ids"))
    )
    if layers is not None and len(diff_ids) != layers:
        reason = f"{len(diff_ids)} for {layers} layers in the manifest"
        raise rootfs.bad("diff_ids", reason)
    return diff_ids


def _read_history(fields: Fields) -> HistoryEntry:
    return HistoryEntry(
        created=fields.text("created") or "",
        created_by=fields.text("created_by") or "",
        author=fields.text("author") or "",
        comment=fields.text("comment") or "",
        empty_layer=fields.boolean("empty_layer"),
    )


def _read_healthcheck(run: Fields) -> str:
    if not run.has("Healthcheck"):
        return ""
    return json.dumps(run.members["Healthcheck"], sort_keys=True, separators=(",", ":"))


# Source: RFC 3339 section 5.6; OCI image-spec v1.1.1, config.md, `created`.
_WRITTEN = pattern(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,18})?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
#: The first public release of Docker, 0.1.0 of 23 March 2013. Earlier dates are placeholders of
#: reproducible builds: the year 1, 1970, 1980.
_FIRST_IMAGES = datetime(2013, 3, 23, tzinfo=UTC)
_LEAP = 60


def read_moment(text: str) -> datetime | None:
    """Parse a build date, normally RFC 3339; None if invalid or a placeholder."""
    matched = _WRITTEN.fullmatch(text) if len(text) <= 64 else None  # noqa: PLR2004 - as the pattern
    if matched is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in matched.groups()[:6])
    sign, hours, minutes = matched.groups()[6:]
    away = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    try:
        zone = timezone(-away if sign == "-" else away)
        # A leap second becomes the second before it: ages are shown in hours.
        moment = datetime(
            year, month, day, hour, minute, min(second, _LEAP - 1) if second <= _LEAP else second,
            tzinfo=zone,
        )  # fmt: skip
    except (ValueError, OverflowError):
        return None
    return moment if moment >= _FIRST_IMAGES else None


def in_words(seconds: float) -> str:
    """Format a duration in days, or in hours below two days."""
    hours = int(seconds // 3_600)
    count, unit = (hours, "hour") if hours < 48 else (hours // 24, "day")  # noqa: PLR2004
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
