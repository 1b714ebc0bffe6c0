"""Plain values: answers as dictionaries, for JSON and YAML.

The names and shapes are a public format: increase `SCHEMA` when one changes its meaning.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from resolver.core.results.resolve import Failure, Inspection, Offer, Offers, Resolution
from resolver.errors import ResolverError
from resolver.render.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Warned

#: Version of the format.
SCHEMA = 1

Plain = dict[str, object]


class Rows:
    """A list that can be very long: each member is made when it is written.

    Members contain no messages, so `cleaned` does not change them.

    Args:
        make: converts a value to a member.
        values: iterated each time.
    """

    __slots__ = ("_make", "_values")

    def __init__(self, make: Callable[[Any], object], values: Collection[Any]) -> None:
        self._make = make
        self._values = values

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._values)

    def __iter__(self) -> Iterator[object]:
        """Make the members one by one."""
        return map(self._make, self._values)


#: Members with the text of errors, warnings and tools.
_MESSAGES = frozenset({"error", "warnings", "said"})


def to_dict(answer: object, *, explain: bool = False) -> Plain:
    """Turn an answer or an error into plain values, in a stable order."""
    match answer:
        case Resolution():
            return _resolution(answer, explain=explain)
        case Offers():
            return _offers(answer)
        case Inspection():
            return _inspection(answer)
        case Failure():
            return {
                "schema": SCHEMA,
                "reference": answer.reference,
                "wanted": answer.wanted,
                **failure(answer.error),
            }
        case ResolverError():
            return {"schema": SCHEMA, **failure(answer)}
        case _:
            from resolver.render.answers import renderer_of  # noqa: PLC0415 - a resolve needs none

            return {"schema": SCHEMA, **renderer_of(answer).plain(answer)}


def descriptor(value: Descriptor) -> Plain:
    """Return a descriptor with the field names of the OCI specification."""
    written: Plain = {
        "mediaType": value.media_type,
        "digest": str(value.digest),
        "size": value.size,
    }
    if value.artifact_type:
        written["artifactType"] = value.artifact_type
    if value.platform is not None:
        written["platform"] = platform(value.platform)
    if value.annotations:
        written["annotations"] = dict(value.annotations)
    return written


def platform(value: Platform) -> Plain:
    """Return a platform with the field names of the OCI specification, without empty fields."""
    written: Plain = {"os": value.os, "architecture": value.architecture}
    if value.variant:
        written["variant"] = value.variant
    if value.os_version:
        written["os.version"] = value.os_version
    if value.os_features:
        written["os.features"] = list(value.os_features)
    return written


def _resolution(answer: Resolution, *, explain: bool) -> Plain:
    written: Plain = {
        "schema": SCHEMA,
        "reference": answer.reference,
        "wanted": [str(wanted) for wanted in answer.wanted],
        "explicit": answer.explicit,
        "platform": platform(answer.platform) if answer.platform is not None else None,
        "normalized": platform(answer.normalized) if answer.normalized is not None else None,
        "grade": answer.grade.value if answer.grade is not None else None,
        "manifest": bare(answer.manifest),
        "index": bare(answer.index) if answer.index is not None else None,
        "pinned": answer.pinned,
        "pinnedIndex": answer.pinned_index,
        "warnings": warnings(answer.warnings),
    }
    if answer.tag_verified is not None:
        written["tagVerified"] = answer.tag_verified
    if explain:
        written["entries"] = [
            {
                "path": list(entry.path),
                **descriptor(entry.descriptor),
                "chosen": entry.chosen,
                "reason": entry.reason,
            }
            for entry in answer.considered
        ]
    return written


def bare(value: Descriptor) -> Plain:
    """Return only the media type, digest and size of a descriptor."""
    return {"mediaType": value.media_type, "digest": str(value.digest), "size": value.size}


def _offers(answer: Offers) -> Plain:
    return {
        "schema": SCHEMA,
        "reference": answer.reference,
        "root": bare(answer.root),
        "platforms": [_offer(offer) for offer in answer.offers],
        "attestations": [_offer(offer) for offer in answer.attestations],
        "artifacts": [_offer(offer) for offer in answer.artifacts],
        "warnings": warnings(answer.warnings),
    }


def _offer(offer: Offer) -> Plain:
    written = descriptor(offer.descriptor)
    written["platform"] = platform(offer.platform) if offer.platform is not None else None
    if offer.refers_to is not None:
        written["refersTo"] = offer.refers_to
    elif offer.artifact_type is not None:
        written["artifactType"] = offer.artifact_type
    else:
        written["name"] = str(offer.platform) if offer.platform is not None else None
        written["layers"] = offer.layers
        written["layersSize"] = offer.size
    return written


def _inspection(answer: Inspection) -> Plain:
    """Include the documents themselves, as published."""
    written: Plain = {
        "schema": SCHEMA,
        "reference": answer.reference,
        "root": bare(answer.root),
        "platform": platform(answer.platform) if answer.platform is not None else None,
    }
    if answer.index is not None:
        written["index"] = {**bare(answer.descriptor), "document": json.loads(answer.body)}
    else:
        written["manifest"] = {**bare(answer.descriptor), "document": json.loads(answer.body)}
        written["stepSizes"] = list(answer.step_sizes)
        written["config"] = (
            json.loads(answer.config_body)
            if answer.config is not None and answer.config_body
            else None
        )
        layers = answer.manifest.layers if answer.manifest is not None else ()
        written["layers"] = [descriptor(layer) for layer in layers]
        written["layersSize"] = sum(layer.size for layer in layers)
    written["warnings"] = warnings(answer.warnings)
    return written


def warnings(found: tuple[Warned, ...]) -> list[Plain]:
    """Return warnings as plain values."""
    return [{"code": warning.code, "message": escape(warning.message)} for warning in found]


def cleaned(value: Plain, clean: Callable[[str], str]) -> Plain:
    """Apply `clean` to the text of errors, warnings and tools, and to nothing else."""
    return {
        name: _clean_value(member, clean, said=name in _MESSAGES) for name, member in value.items()
    }


def _clean_value(value: object, clean: Callable[[str], str], *, said: bool) -> object:
    match value:
        case dict():
            return {
                name: _clean_value(member, clean, said=said or name in _MESSAGES)
                for name, member in value.items()
            }
        case list():
            return [_clean_value(member, clean, said=said) for member in value]
        case str() if said:
            return clean(value)
        case _:
            return value


def failure(error: Exception) -> Plain:
    """Return an error: its class, code, status, message, hints and facts."""
    if not isinstance(error, ResolverError):
        raise error
    facts = {name: _jsonable(value) for name, value in error.facts().items()}
    return {
        "error": {
            "class": error.word,
            "code": error.code,
            "status": error.kind.status,
            "message": escape(str(error)),
            "hints": [escape(hint) for hint in error.hints()],
            **facts,
        }
    }


def _jsonable(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_jsonable(item) for item in value]
    return str(value)
