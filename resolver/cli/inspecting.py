"""Checks and choices of `resolver inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import PlatformUnknown, Usage

if TYPE_CHECKING:
    from resolver.core.contents import Inspection


def check(platform: str | None, form: str, *, raw: bool, config: bool) -> None:
    """Refuse options that do not go together, before anybody is asked.

    Raises:
        Usage: they do not.

    """
    if raw and config:
        raise Usage("`--raw` and `--config` each print one document", "choose one of them")
    if (raw or config) and form != "table":
        option = "--raw" if raw else "--config"
        raise Usage(
            f"`{option}` prints exact bytes, so `--format {form}` cannot apply",
            f"leave one of them out; the bytes of `{option}` are JSON already",
        )
    if platform is not None and ("," in platform and ",osver=" not in platform):
        raise Usage("`inspect` shows one platform at a time", "name one platform")
    if platform == "all":
        raise Usage(
            "`inspect` shows one platform at a time", "see them all with `resolver platforms`"
        )


def exact_bytes(found: Inspection, *, config: bool) -> bytes:
    """Give the bytes that `--raw` or `--config` promise.

    Raises:
        PlatformUnknown: there is no config to show.

    """
    if not config:
        return found.body
    if found.config_body is None:
        raise PlatformUnknown(
            f"`{found.reference}` has no image config", "see what it is: `resolver inspect --raw`"
        )
    return found.config_body
