"""Comparing what an index says of an image with what the image says of itself (R10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.descriptor import CONFIG_TYPES
from resolver.core.events import Warned
from resolver.core.image_config import parse_config
from resolver.errors import ResolverError

if TYPE_CHECKING:
    from resolver.core.plan import PlannedImage
    from resolver.store import LocalStore


def contradiction(image: PlannedImage, store: LocalStore) -> tuple[Warned, ...]:
    """Warn if the config of a pulled image says another platform than its index.

    The config is here by now; a resolve that had not read it could not tell.
    """
    config = next((each.descriptor for each in image.contents if each.role == "config"), None)
    stated = image.platform
    if stated is None or config is None or config.media_type not in CONFIG_TYPES:
        return ()
    if any(warning.code == "contradictory-platform" for warning in image.warnings):
        return ()
    try:
        what = f"the config of `{image.reference}`"
        said = parse_config(store.read(config), what, None).platform
    except ResolverError:
        # Whoever runs the image will say what is wrong with it; it is what its digest promised.
        return ()
    if said is None:
        return ()
    one, other = stated.normalized(), said.normalized()
    same_kind = (one.os, one.architecture) == (other.os, other.architecture)
    if same_kind and (not said.variant or one.variant == other.variant):
        return ()
    message = (
        f"`{image.reference}` lists `{image.manifest.digest}` as `{stated}`, "
        f"but its config says `{said}`"
    )
    return (Warned("contradictory-platform", message),)
