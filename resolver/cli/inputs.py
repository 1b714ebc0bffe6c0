"""Inputs: references, platforms, sizes and a password, parsed before any request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from resolver.errors import ResolverError, Usage
from resolver.files.read import read_given
from resolver.values import pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from resolver.cli.output import Output
    from resolver.core.results.resolve import Failure, Resolution
    from resolver.session import Session


#: Bytes of a list of references; a thousand references take about 60 kB.
MAX_LIST = 4 * 1024 * 1024
MAX_PASSWORD = 64 * 1024


def read_references(place: str) -> list[tuple[str, str]]:
    """Read references, one per line; skip blank lines and lines that begin with `#`.

    Returns:
        Pairs of the position (`images.txt:3`) and the text.
    """
    name = "standard input" if place == "-" else place
    text = _decode(_bytes(place, MAX_LIST, name), name)
    found = [
        (f"{name}:{number}", line.strip())
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not found:
        raise Usage(f"`{name}` contains no reference", "write one reference per line")
    return found


def read_rules(place: str) -> list[str]:
    """Read the lines of a file of rules; `-` is standard input."""
    name = "standard input" if place == "-" else place
    return _decode(_bytes(place, MAX_LIST, name), name).splitlines()


def read_password() -> str:
    """Read a password from standard input, without the line break at its end."""
    name = "standard input"
    text = _decode(_bytes("-", MAX_PASSWORD, name), name).removesuffix("\n").removesuffix("\r")
    if not text:
        raise Usage("standard input contains no password", "pipe it in: `… < password.txt`")
    return text


def split_platforms(values: list[str], option: str = "--platform") -> list[str]:
    """Split comma lists; `,osver=` (regctl's spelling) belongs to the platform before it."""
    found: list[str] = []
    for value in values:
        for part in value.split(","):
            if part.startswith("osver=") and found:
                found[-1] += f",{part}"
            elif not part.strip():
                raise Usage(
                    f"`{option} {value}` has an empty element",
                    "write `linux/amd64,linux/arm64`, or repeat the option",
                )
            else:
                found.append(part)
    return list(dict.fromkeys(found))


def _bytes(place: str, limit: int, name: str) -> bytes:
    if place == "-" and sys.stdin is None:
        raise Usage("standard input is closed", "name a file instead of `-`")
    try:
        body = sys.stdin.buffer.read(limit + 1) if place == "-" else read_given(place, limit)
    except ValueError as error:
        raise Usage(f"`{name}` is not a valid path", "name a readable file") from error
    except OSError as error:
        raise Usage(
            f"cannot read `{name}`: {error.strerror or error}", "name a readable file"
        ) from error
    if len(body) > limit:
        raise Usage(f"`{name}` is larger than {limit} bytes", "split it")
    return body


def _decode(body: bytes, name: str) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Usage(f"`{name}` is not UTF-8 text", "save it as UTF-8") from error


#: Decimal units as in Docker; with an `i`, binary.
_UNITS = {
    "": 1,
    "b": 1,
    "k": 10**3, "kb": 10**3, "kib": 2**10,
    "m": 10**6, "mb": 10**6, "mib": 2**20,
    "g": 10**9, "gb": 10**9, "gib": 2**30,
    "t": 10**12, "tb": 10**12, "tib": 2**40,
}  # fmt: skip
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZE = pattern(r"([0-9]{1,15})(?:\.([0-9]{1,9}))? ?([A-Za-z]{0,3})")
_SPAN = pattern(r"([0-9]{1,9})([smhdw])")
#: Characters of a size or a duration at most; checked before it is parsed.
_LONGEST = 32


def size(text: str, option: str) -> int:
    """Parse a size in bytes: `500MB`, `1.5 GiB`, `1048576`."""
    match = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    factor = _UNITS.get(match[3].lower()) if match else None
    if match is None or factor is None or (match[2] and factor == 1):
        raise Usage(
            f"`{option} {text}` is not a size",
            "write a number and a unit: `500MB`, `2GiB`, `1048576`",
        )
    fraction = match[2] or ""
    scale = int("1" + "0" * len(fraction))
    return int(match[1]) * factor + int(fraction or "0") * factor // scale


def positive_size(text: str, option: str) -> int:
    """Parse a size in bytes that is not zero.

    Raises:
        Usage: the text is not a size, or is zero.
    """
    count = size(text, option)
    if not count:
        raise Usage(f"`{option} 0` leaves nothing to read", "name a size: `64MiB`")
    return count


def span(text: str, option: str) -> float:
    """Parse a duration (`90s`, `30m`, `12h`, `7d`, `2w`) and return seconds."""
    match = _SPAN.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise Usage(f"`{option} {text}` is not a duration", "write it as `30m`, `12h` or `7d`")
    return float(int(match[1]) * _SPANS[match[2]])


def for_each(
    output: Output,
    form: str,
    items: Sequence[str],
    action: Callable[[str], object],
    *,
    full: bool = False,
    gap: str = "",
) -> None:
    """Run an action for each item and print each answer; continue after a failure.

    `gap` goes between the answers of people; it is empty for answers of one line.
    """
    from resolver.cli.output import page, presentable
    from resolver.core.results.resolve import Failure
    from resolver.render import render, render_values, renderer
    from resolver.render.to_dict import SCHEMA, cleaned, to_dict

    row = renderer(form)
    collected = []
    worst = 0
    printed = False
    for item in dict.fromkeys(items):
        try:
            answer = action(item)
        except ResolverError as error:
            output.failed(error)
            worst = max(worst, error.kind.status)
            answer = Failure(item, (), error)
        output.keep(answer)
        if row.collects:
            collected.append(cleaned(to_dict(answer), presentable))
        elif row.is_lines or not isinstance(answer, Failure):
            text = render(answer, form, full=full, page=page(), clean=presentable)
            output.answer(gap * (printed and not row.is_lines) + text)
            printed = True
    if collected:
        one = len(items) == 1
        value = collected[0] if one else {"schema": SCHEMA, "results": collected}
        output.answer(render_values(value, form))
    if worst:
        raise typer.Exit(worst)


def expand_platforms(
    session: Session, reference: str, platforms: Sequence[str | None]
) -> list[str | None]:
    """Replace each pattern, as `linux/*`, by the platforms of the image that match it."""
    if not has_pattern(platforms):
        return list(platforms)
    from fnmatch import fnmatchcase

    from resolver.errors import PlatformNotOffered

    offers = session.platforms(reference, sizes=False)
    offered = [offer.platform for offer in offers.offers if offer.platform is not None]
    found: dict[str | None, None] = {}
    for wanted in platforms:
        if wanted is None or not has_pattern([wanted]):
            found[wanted] = None
            continue
        names = [
            str(platform)
            for platform in offered
            if fnmatchcase(str(platform), wanted) or fnmatchcase(str(platform.normalized()), wanted)
        ]
        if not names:
            raise PlatformNotOffered(offers.reference, wanted, [str(item) for item in offered])
        found |= dict.fromkeys(names)
    return list(found)


def expand_for_all(
    session: Session, references: Iterable[str], platforms: Sequence[str]
) -> list[str]:
    """Replace each pattern by the platforms that match it in any of the images."""
    found: dict[str, None] = {}
    for reference in references if has_pattern(platforms) else ():
        found |= dict.fromkeys(filter(None, expand_platforms(session, reference, platforms)))
    return list(found) or list(platforms)


def resolve_matching(
    session: Session, references: Iterable[str], platforms: Sequence[str | None], **flags: bool
) -> Iterator[Resolution | Failure]:
    """Resolve each reference for its own platforms that match the patterns."""
    from resolver.core.results.resolve import Failure

    for reference in references:
        try:
            expanded = expand_platforms(session, reference, platforms)
        except ResolverError as error:
            yield Failure(reference, tuple(filter(None, platforms)), error)
        else:
            yield from session.resolve_each([reference], expanded, executor=None, **flags)


def refuse_locked_pattern(lock_file: str | None) -> None:
    """Refuse a pattern with `--locked`: only an index lists what could match."""
    if lock_file is not None:
        raise Usage(
            "a pattern in `--platform` needs the index, and `--locked` does not read it",
            "name the platforms, or use `-p all`",
        )


def has_pattern(platforms: Sequence[str | None]) -> bool:
    """Return whether a platform is a pattern with `*` or `?`."""
    return any(text and ("*" in text or "?" in text) for text in platforms)


class References(list[str]):
    """References as typed, and where in a file the malformed ones are: `images.txt:3`."""

    def __init__(self, given: Iterable[str]) -> None:
        super().__init__(given)
        self.places: dict[str, str] = {}


def gather(references: list[str], file: str | None, verb: str = "resolve") -> References:
    """Return the references given as arguments and in a file.

    A malformed argument is an error. A malformed line among several references is left to the verb,
    whose answer has a failure in its place.
    """
    from resolver.core.oci.target import RegistryTarget, parse_target

    for text in references:
        target = parse_target(text)
        if isinstance(target, RegistryTarget):
            target.reference.check_endpoint()
    found = References(references)
    malformed: ResolverError | None = None
    for place, text in read_references(file) if file is not None else ():
        found.append(text)
        try:
            parse_target(text)
        except ResolverError as error:
            found.places.setdefault(text, place)
            malformed = error
    if malformed is not None and len(found) == len(found.places) == 1:
        raise Usage(f"{found.places[found[0]]}: {malformed}", *malformed.hints()) from malformed
    if not found:
        raise Usage(
            f"no reference to {verb}", f"name one: `resolver {verb} ubuntu:24.04 -p linux/arm64`"
        )
    return found
