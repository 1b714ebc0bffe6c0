"""Shell completion: what a shell offers after TAB for platforms and for references.

Runs at every TAB: it asks nobody, loads no client, and never fails, whatever is in the store.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from resolver.errors import ResolverError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Names that the store may have at most for all of them to be offered.
_MOST = 1_000

#: What people ask for most, beside the words that stand for a platform.
_PLATFORMS = (
    "local",
    "all",
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/386",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
    "linux/loong64",
    "windows/amd64:ltsc2019",
    "windows/amd64:ltsc2022",
    "windows/amd64:ltsc2025",
)


def offer_help_as_it_is() -> None:
    """Keep Typer from reading help texts as rich's markup while it completes.

    It does so whenever rich is installed, whatever `rich_markup_mode` says: that fails on
    `os/arch[/variant]`, and loads all of rich at every TAB. Source: Typer 0.28,
    `_completion_classes.py`, `_sanitize_help_text`.
    """
    from typer import _completion_classes

    if hasattr(_completion_classes, "_sanitize_help_text"):
        _completion_classes._sanitize_help_text = _as_it_is  # noqa: SLF001 - no other switch


def _as_it_is(text: str) -> str:
    return text


def platforms(incomplete: str) -> list[str]:
    """Offer platforms; in a list with commas, for its last element."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{each}" for each in _PLATFORMS if each.startswith(last)]


def references(incomplete: str, store: str | None = None) -> list[str]:
    """Offer the names in the store, as canonical or as short as people write them."""
    found: dict[str, None] = {}
    prefix = "store:" if incomplete.startswith("store:") else ""
    start = incomplete.removeprefix(prefix)
    with suppress(ResolverError, OSError, ValueError):
        for canonical, familiar in _held(store):
            # The short form first: it is what people type.
            for form in (familiar, canonical):
                if form.startswith(start):
                    found[f"{prefix}{form}"] = None
                    break
            if len(found) >= _MOST:
                break
    return sorted(found)


def _held(folder: str | None) -> Iterator[tuple[str, str]]:
    """Give every name of the store, canonical and familiar."""
    from resolver.core.oci.reference import Reference
    from resolver.settings import Flags, Settings
    from resolver.store import LocalStore

    settings = Settings.load(Flags(store=folder))
    store = LocalStore(settings.store, shared=settings.shared_store)
    names = {record.reference for record in store.pulled_names()}
    names |= {record.reference for record in store.names()}
    for name in sorted(names):
        with suppress(ResolverError):
            reference = Reference.parse(name)
            yield name, name if reference.digest is not None else reference.familiar
