"""Plain values: answers as the dictionaries that JSON and YAML write down.

The names and shapes here are a public format: `SCHEMA` grows when one changes its meaning.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING

from resolver.core.answer import Failure, Resolution
from resolver.core.contents import Inspection, Offer, Offers
from resolver.errors import ResolverError
from resolver.render.escape import escape

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.core.events import Warned
    from resolver.core.platform import Platform

#: Version of the written format.
SCHEMA = 1

Plain = dict[str, object]

#: Answers whose plain form is made elsewhere, by the module that defines the answer.
ELSEWHERE = {
    "resolver.core.checkup": "resolver.render.plain_doctor",
    "resolver.core.checked": "resolver.render.plain_check",
    "resolver.core.comparison": "resolver.render.plain_compare",
    "resolver.core.exported": "resolver.render.plain_export",
    "resolver.core.linted": "resolver.render.plain_lint",
    "resolver.core.found": "resolver.render.plain_home",
    "resolver.core.login": "resolver.render.plain_home",
    "resolver.core.listing": "resolver.render.plain_store",
    "resolver.core.matrix": "resolver.render.plain_matrix",
    "resolver.core.lock_check": "resolver.render.plain_lock",
    "resolver.core.lock": "resolver.render.plain_lock",
    "resolver.core.pinned": "resolver.render.plain_pin",
    "resolver.core.plan": "resolver.render.plain_plan",
    "resolver.core.pulled": "resolver.render.plain_plan",
    "resolver.core.stored": "resolver.render.plain_store",
    "resolver.core.tagged": "resolver.render.tagged",
}


def plain(answer: object, *, explain: bool = False) -> Plain:
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
            place = import_module(ELSEWHERE[type(answer).__module__])
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
