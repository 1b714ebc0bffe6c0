"""Read the policy file of `resolver check --policy`.

    version: 1
    defaults:
      require: [linux/amd64, linux/arm64]
      max-age: 90d
    images:
      - ubuntu:24.04
      - image: registry.example.com/team/app:1
        require: [linux/amd64, "windows/amd64:10.0.20348"]
        require-attestation: sbom

`defaults` apply to every image; a field of an image replaces the default. The fields are those of
`FIELDS`; a list of one item may be written without brackets. Errors are `BadFile` with line, column
and path.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from resolver.core.check.check import Requirements, parse_age, parse_attestation, parse_cover
from resolver.core.lint.findings import FindingPlace, Severity
from resolver.core.oci.target import parse_target
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.core.results.attestations import TrustOptions
from resolver.core.results.needs import parse_kernel, parse_page_size
from resolver.errors import InvalidPlatform, ResolverError
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.parse.document import FieldReader
    from resolver.core.platforms.platform import PlatformTable

Value = TypeVar("Value")

#: The supported version of the format.
VERSION = 1
#: The most images of one policy.
MAX_IMAGES = 10_000


@dataclass(frozen=True, slots=True)
class PolicyImage:
    """One image of a policy: its reference as written, what is required of it, and where."""

    reference: str
    wanted: Requirements
    place: FindingPlace


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy file; `defaults` apply to images named elsewhere."""

    defaults: Requirements
    images: tuple[PolicyImage, ...]


@dataclass(frozen=True, slots=True)
class _Context:
    table: PlatformTable
    rules: frozenset[str]


def read_policy(
    root: FieldReader,
    table: PlatformTable = BUILTIN,
    over: Callable[[Requirements], Requirements] = lambda defaults: defaults,
) -> Policy:
    """Read a policy; `over` changes its defaults, for command-line options."""
    if root.is_empty:
        root.fail("it is empty", f"begin with `version: {VERSION}` and `images:`")
    fields = root.fields("version", "defaults", "images")
    if "version" not in fields:
        root.fail("it has no `version`", f"begin with `version: {VERSION}`")
    if fields["version"].whole() != VERSION:
        fields["version"].fail(
            f"this version is not supported, only {VERSION}", "a newer `resolver` may support it"
        )
    context = _Context(table, known_rules())
    defaults = Requirements()
    if "defaults" in fields and not fields["defaults"].is_empty:
        defaults = _requirements(fields["defaults"].fields(*FIELDS), defaults, context)
    defaults = over(defaults)
    if "images" not in fields:
        root.fail("it has no `images`", "list them: `images: [ubuntu:24.04]`")
    images = tuple(_image(spot, defaults, context) for spot in fields["images"].items())
    if not images:
        fields["images"].fail("no image is listed")
    if len(images) > MAX_IMAGES:
        fields["images"].fail(f"there are more than {MAX_IMAGES} images", "split the file")
    return Policy(defaults, images)


def _image(spot: FieldReader, defaults: Requirements, context: _Context) -> PolicyImage:
    place = FindingPlace(spot.place, *spot.position)
    if not spot.is_mapping:
        found = PolicyImage(_reference(spot), defaults, place)
    else:
        fields = spot.fields("image", *FIELDS)
        if "image" not in fields:
            spot.fail("it has no `image`", "name one: `image: ubuntu:24.04`")
        reference = _reference(fields.pop("image"))
        found = PolicyImage(reference, _requirements(fields, defaults, context), place)
    if found.wanted.is_empty:
        spot.fail("this image has no requirements", "add `require: [linux/amd64]` or `defaults`")
    return found


def _reference(spot: FieldReader) -> str:
    text = spot.text()
    try:
        parse_target(text)
    except ResolverError as error:
        spot.fail(str(error), *error.hints())
    return text


def _requirements(
    fields: dict[str, FieldReader], defaults: Requirements, context: _Context
) -> Requirements:
    values = {FIELDS[name][0]: FIELDS[name][1](spot, context) for name, spot in fields.items()}
    signers = {name: values.pop(name) for name in tuple(values) if name.startswith(_TRUST)}
    if signers:
        # A key replaces the identity of the defaults, and the other way round.
        named = {name.removeprefix(_TRUST): value for name, value in signers.items()}
        base = TrustOptions() if "key" in named else replace(defaults.trust, key="")
        values["trust"] = replace(base, **named)
    return replace(defaults, **values)


_TRUST = "trust."


def _platforms(spot: FieldReader, context: _Context) -> tuple[Platform, ...]:
    return tuple(_platform(each, context) for each in spot.one_or_more())


def _platform(spot: FieldReader, context: _Context) -> Platform:
    try:
        return Platform.parse(spot.text(), table=context.table)
    except InvalidPlatform as error:
        return spot.fail(f"this is not a platform: {error.reason}", *error.hints())


def _attestations(spot: FieldReader, _context: _Context) -> tuple[str, ...]:
    refusal = "this is not a kind of attestation"
    return tuple(_read(each, parse_attestation, refusal) for each in spot.one_or_more())


def _cover(spot: FieldReader, _context: _Context) -> str:
    return _read(spot, parse_cover, "this is nothing that attestations can cover")


def _named_file(spot: FieldReader) -> str:
    """Return a path; a relative one begins at the folder of the policy."""
    text = spot.text()
    folder, slash, _name = spot.place.rpartition("/")
    return text if text.startswith("/") or not slash else f"{folder}/{text}"


def _max_age(spot: FieldReader, _context: _Context) -> int:
    from resolver.core.parse.yaml_tree import ScalarKind, YamlScalar  # noqa: PLC0415 - as below

    if isinstance(spot.value, YamlScalar) and spot.value.kind is ScalarKind.WHOLE:
        spot.fail("an age needs a unit", "write `12h`, `90d`, `8w` or `1y`")
    return _read(spot, parse_age, "this is not an age")


def _lint(spot: FieldReader, _context: _Context) -> Severity | None:
    text = spot.text()
    if text == "never":
        return None
    for severity in Severity:
        if text == severity.value:
            return severity
    return spot.fail("this is not a severity", "choose `error`, `warning`, `note`, `never`")


def _ignore(spot: FieldReader, context: _Context) -> tuple[str, ...]:
    from resolver.core.parse.document import similar  # noqa: PLC0415 - most policies are never read

    names = []
    for each in spot.one_or_more():
        name = each.text()
        if name not in context.rules:
            meant = similar(name, tuple(sorted(context.rules)))
            listing = "see `resolver check --help` and `resolver lint --rules`"
            each.fail("unknown rule", f"did you mean `{meant}`?" if meant else listing)
        names.append(name)
    return tuple(names)


def _read(spot: FieldReader, parse: Callable[[str], Value], refusal: str) -> Value:
    try:
        return parse(spot.text())
    except ResolverError as error:
        return spot.fail(refusal, *error.hints())


def known_rules() -> frozenset[str]:
    """Return the ids of all rules of check and lint."""
    from resolver.core.check.check import RULES  # noqa: PLC0415 - for policies alone
    from resolver.core.lint.lint import RULES as ROWS  # noqa: PLC0415 - as above

    return frozenset({rule.id for rule in RULES} | {row.rule.id for row in ROWS})


#: By the name in a policy, which is also that of the command-line option: a field of
#: `Requirements` or of its `trust`, and how to read it.
FIELDS: dict[str, tuple[str, Callable[[FieldReader, _Context], Any]]] = {
    "require": ("require", _platforms),
    "forbid": ("forbid", _platforms),
    "only": ("only", _platforms),
    "same-platforms-as": ("same_as", lambda spot, _context: _reference(spot)),
    "compatible": ("compatible", lambda spot, _context: spot.truth()),
    "require-attestation": ("attestations", _attestations),
    "cover": ("cover", _cover),
    "key": ("trust.key", lambda spot, _context: _named_file(spot)),
    "identity": ("trust.identity", lambda spot, _context: spot.text()),
    "issuer": ("trust.issuer", lambda spot, _context: spot.text()),
    "trusted-root": ("trust.trusted_root", lambda spot, _context: _named_file(spot)),
    "max-age": ("max_age", _max_age),
    "lint": ("lint", _lint),
    "runs-on": ("runs_on", _platforms),
    "page-size": (
        "page_size",
        lambda spot, _context: _read(spot, parse_page_size, "this is not a page size"),
    ),
    "kernel": (
        "kernel",
        lambda spot, _context: _read(spot, parse_kernel, "this is not a kernel version"),
    ),
    "strict": ("strict", lambda spot, _context: spot.truth()),
    "ignore": ("ignore", _ignore),
}
