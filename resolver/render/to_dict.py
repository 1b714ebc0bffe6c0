"""Plain values: answers as the dictionaries that JSON and YAML write down.

The names and shapes here are a public format: `SCHEMA` grows when one changes its meaning.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from resolver.core.results.resolve import Failure, Inspection, Offer, Offers, Resolution
from resolver.errors import ResolverError
from resolver.render.answers import renderer_of
from resolver.render.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Warned

#: Version of the written format.
SCHEMA = 1

Plain = dict[str, object]


class Rows:
    """A list of a document that may be very long: each member is made when it is written.

    No member holds a message, so `cleaned` leaves them as they are.

    Args:
        make: makes one of each value.
        values: any number; they are gone through each time.
    """

    __slots__ = ("_make", "_values")

    def __init__(self, make: Callable[[Any], object], values: Collection[Any]) -> None:
        self._make = make
        self._values = values

    def __len__(self) -> int:
        """Count them."""
        return len(self._values)

    def __iter__(self) -> Iterator[object]:
        """Make one after the other."""
        return map(self._make, self._values)


#: Members that hold what errors, warnings and tools said.
_SAID = frozenset({"error", "warnings", "said"})


def to_dict(answer: object, *, explain: bool = False) -> Plain:
    """Turn an answer or an error into plain values; lists keep their order, so output is stable."""
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
            place = renderer_of(answer)
            made: Plain = {"schema": SCHEMA, **place.plain(answer)}
            return made


def descriptor(value: Descriptor) -> Plain:
    """Write a descriptor in the words of the OCI specification."""
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
    """Write a platform in the words of the OCI specification; empty fields are left out."""
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
    """Write what kind of content it is, its digest and its size, and nothing else."""
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
    """Give the documents themselves, as their publisher wrote them, under names of ours."""
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


def warnings(told: tuple[Warned, ...]) -> list[Plain]:
    """Write warnings."""
    return [{"code": each.code, "message": escape(each.message)} for each in told]


def cleaned(value: Plain, clean: Callable[[str], str]) -> Plain:
    """Pass what errors, warnings and tools said through `clean`; all else stays as it is."""
    return {name: _part(part, clean, said=name in _SAID) for name, part in value.items()}


def _part(value: object, clean: Callable[[str], str], *, said: bool) -> object:
    match value:
        case dict():
            return {
                name: _part(part, clean, said=said or name in _SAID) for name, part in value.items()
            }
        case list():
            return [_part(part, clean, said=said) for part in value]
        case str() if said:
            return clean(value)
        case _:
            return value


def failure(error: Exception) -> Plain:
    """Write an error: its class, code, status, words and facts."""
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
