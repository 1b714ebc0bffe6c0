"""Helpers for tests of `pin`: pin a text without a registry, and two independent parsers."""

from __future__ import annotations

import re
from typing import Any

import dockerfile  # type: ignore[import-not-found]  # a compiled module without types
import yaml

from resolver.core.oci.digest import Digest
from resolver.core.pin.edits import apply
from resolver.verbs.pin import find_images

#: A digest as it is written into a file, and the tag that a name without one gets before it.
WRITTEN = re.compile(r"@sha256:[0-9a-f]{64}|:latest")


def digest_of(reference: object) -> Digest:
    """Return the digest of a reference in these tests."""
    return Digest.of(str(reference).encode())


def pin(path: str, text: str) -> str:
    """Pin everything in a text that is not pinned and not ignored."""
    spots = find_images(path, text).spots
    return apply(
        text,
        [
            spot.pin(digest_of(spot.tagged))
            for spot in spots
            if not spot.is_ignored and spot.reference.digest is None
        ],
    )


def unpin(path: str, text: str) -> str:
    """Remove every digest that can be removed."""
    edits = [spot.unpin() for spot in find_images(path, text).spots if not spot.is_ignored]
    return apply(text, [edit for edit in edits if edit is not None])


def instructions(text: str) -> list[tuple[str, ...]]:
    """Read a Dockerfile with BuildKit's own parser, digests left out."""
    return [
        tuple(
            WRITTEN.sub("", word)
            for word in (
                command.cmd,
                command.sub_cmd or "",
                *command.flags,
                "|",
                *command.value,
                # The only place where it tells the flags of an instruction inside ONBUILD.
                command.original if command.sub_cmd else "",
            )
        )
        for command in dockerfile.parse_string(text)
        if command.cmd  # A line with only a continuation has no name.
    ]


class _Loader(yaml.CSafeLoader):
    """Reads application-specific YAML tags as their values."""


def _any_tag(loader: yaml.CSafeLoader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)  # type: ignore[arg-type]  # nothing else is left


_Loader.add_multi_constructor("!", _any_tag)


def documents(text: str, *, keep_digests: bool = False) -> object:
    """Load YAML as the programs that read it do; digests, and their keys, left out."""
    return _without(list(yaml.load_all(text, Loader=_Loader)), keep=keep_digests)


def _without(value: object, *, keep: bool) -> object:
    if isinstance(value, dict):
        return {
            name: _without(held, keep=keep)
            for name, held in value.items()
            if keep or name != "digest"
        }
    if isinstance(value, list):
        return [_without(held, keep=keep) for held in value]
    # A tag that looks like a number is one until there is a digest behind it.
    text = str(value)
    return text if keep else WRITTEN.sub("", text)
