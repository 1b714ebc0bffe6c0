"""Which layers of a plan a Docker engine has unpacked: for people, since nothing can be taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.descriptor import CONFIG_TYPES
from resolver.core.image_config import parse_config

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from resolver.core.digest import Digest
    from resolver.core.plan import PlannedImage
    from resolver.flow.reader import Reader


def unpacked_of(
    reader: Reader, image: PlannedImage, unpacked: AbstractSet[Digest]
) -> tuple[Digest, ...]:
    """List the layers of an image that somebody has in their unpacked form.

    Reads the image's config, which a pull needs anyway and then finds in the store.

    Args:
        reader: of the image's repository.
        image: planned.
        unpacked: digests of unpacked layers, from `sources.daemon.unpacked_layers`.

    Raises:
        ResolverError: the config cannot be read.

    """
    config = next((each.descriptor for each in image.contents if each.role == "config"), None)
    if not unpacked or config is None or config.media_type not in CONFIG_TYPES:
        return ()
    layers = image.layers
    what = f"the config `{config.digest}` of `{image.reference}`"
    diff_ids = parse_config(reader.read(config, what), what, len(layers)).diff_ids
    pairs = zip(layers, diff_ids, strict=False)
    return tuple(dict.fromkeys(layer.digest for layer, diff_id in pairs if diff_id in unpacked))
