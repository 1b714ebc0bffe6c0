"""Sort and filter tags by the version or date in their text.

A tag is free text. Usually it contains a version, a stage before the release (`-rc1`), a rebuild
(`-r3`, `_2`, `-ls8`, `.post1`, `-4-gabcdef`), and a flavour (`-alpine3.19`, `-debian-12`); or a
date, `2024-05-01`, `jammy-20240627`; or a name, `latest`. Few registries report when a tag was
pushed, so that is not used.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING

from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


#: The most numbers of a version, and digits of each.
_MAX_NUMBERS, _MAX_DIGITS = 8, 18
#: Characters of a range or a glob. A tag has at most 128.
_MAX_TYPED = 256

#: Stages before a release, in order. Source: PEP 440 (dev, a, b, rc), Maven's ComparableVersion
#: (alpha, beta, milestone, rc, cr), and what nightly builds of large projects are called.
_STAGES = (
    "dev", "nightly", "snapshot", "canary", "unstable", "experimental", "test", "insiders", "ea",
    "eap", "alpha", "beta", "m", "pre", "preview", "next", "rc",
)  # fmt: skip
_SAME_STAGE = {
    "a": "alpha",
    "b": "beta",
    "c": "rc",
    "cr": "rc",
    "candidate": "rc",
    "exp": "experimental",
    "insider": "insiders",
    "milestone": "m",
    "prerelease": "pre",
}
#: Short words that are ambiguous without a number.
_SHORT = frozenset({"a", "b", "c", "m"})
#: These are stages only directly after the version: `1.2-alpine-dev` is a flavour with tools.
_STAGES_OF_FLAVOURS = frozenset({"alpha", "beta", "pre", "preview", "rc"})
#: Rebuilds with a number: by packagers, and by Kubernetes distributions (`v1.28.5_k3s1`).
_REBUILDS = frozenset(
    {"r", "rev", "revision", "ls", "build", "post", "patch", "hotfix", "update", "cu", "fix"}
    | {"k3s", "rke2r", "rancher", "gke", "vmware"}
)
#: Rebuilds unless a flavour precedes them: `-jdk8u392` is one flavour.
_REBUILDS_OF_VERSIONS = frozenset({"u", "p", "pl", "sp", "hf", "up"})
#: Rebuilds without a number.
_WITHOUT_NUMBER = frozenset({"post", "patch", "hotfix", "sp"})
#: Other words for "released". Source: Maven's ComparableVersion.
_FINAL = frozenset({"final", "ga", "release"})
#: The fewest numbers of a version after which `-b7` is a build, as for YugabyteDB.
_MANY_NUMBERS = 4

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~-]*")
_VERSION = re.compile(
    r"(?:(?:version|release|rel|ver)[-_.]?)?(?:v[-.]?)?"
    r"(?P<numbers>[0-9]+(?:\.[0-9]+)*)(?P<half>h[12](?![A-Za-z0-9]))?",
    re.IGNORECASE,
)
#: Year first, with one separator or none. With dots it is a version: `2024.12.9` is older than
#: `2024.12.10`, and `2024.6.0` is not a date.
_DATE = re.compile(
    r"(?P<before>(?:(?![vV]?[0-9])[A-Za-z0-9_.+~-]*[A-Za-z_.-]|[vV])?)"
    r"(?P<year>(?:19|20)[0-9]{2})"
    r"(?:(?P<gap>[-_])(?P<month>0?[1-9]|1[0-2])(?P=gap)(?P<day>[12][0-9]|3[01]|0?[1-9])"
    r"|(?P<month2>0[1-9]|1[0-2])(?P<day2>0[1-9]|[12][0-9]|3[01]))"
    r"(?:(?:[-_.]?[Tt]|[-_.](?=[0-9]{6}(?![0-9]))|(?<=[0-9]{8})(?=(?:[0-9]{4}|[0-9]{6})(?![0-9])))"
    r"(?P<hour>[01][0-9]|2[0-3])[-_.]?(?P<minute>[0-5][0-9])(?:[-_.]?(?P<second>[0-5][0-9]))?"
    r"[Zz]?)?(?![0-9])"
)
_DOTTED = re.compile(r"[0-9]\.[0-9]")
_TOKEN = re.compile(
    r"(?P<gap>[-_.+~]*)(?:"
    # A commit hash has no age. `20240501a` is a date and a letter.
    r"(?P<hash>(?<![A-Za-z0-9])(?![0-9]+[a-f](?![A-Za-z0-9]))"
    r"(?:(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{7,64}|g[0-9a-f]{7,64})(?![A-Za-z0-9]))"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)*)"
    # Words that contain digits.
    r"|(?P<word>k3s(?=[0-9])|rke2r(?=[0-9])|x86_64|i[36]86|amd64|arm64(?:v8)?|arm32v[567]|armv[5-8]"
    r"|aarch64|ppc64le|s390x|riscv64|mips64le|loong64|[A-Za-z]+))"
)
#: Go's pseudo-version of an untagged commit, which precedes the version.
#: Source: https://go.dev/ref/mod#pseudo-versions.
_PSEUDO = re.compile(r"-(?:[A-Za-z0-9.]+\.)?(?P<time>[0-9]{14})-[0-9a-f]{12}(?![A-Za-z0-9])")
#: Names of commits and digests, whose digits are not numbers.
_HASHED = re.compile(
    r"(?:(?:sha|git|commit)[-_.]?[0-9a-f]{7,}|sha(?:256|512)[-_.]).*", re.IGNORECASE
)

Numbers = tuple[int, ...]
#: A step before or after a release: its rank, and its count.
Step = tuple[int, Numbers]

_RELEASED: Step = (len(_STAGES), ())
_REBUILT = len(_STAGES) + 1
_IS_VERSION, _IS_DATE, _IS_NAME = 2, 1, 0


@dataclass(frozen=True, slots=True)
class Words:
    """Words of a tag, lower-case, and the numbers behind them: `debian`, 12."""

    words: tuple[str, ...] = ()
    numbers: tuple[Numbers, ...] = ()


@dataclass(frozen=True, slots=True)
class Age:
    """The parts of a tag that determine its order.

    Attributes:
        kind: 2 for a version, 1 for a date, 0 for neither, with or without numbers.
        numbers: of the version, without trailing zeros; or year, month, day, and time of day.
        stages: stages before the release, and then the release.
        name: the text before the version or date: `jammy-`.
        flavour: `-alpine3.19`.
        rebuilds: rebuilds, and then the release.
        depth: count of numbers as written: 3 for `1.27.3`, 2 for `1.27`.
        start: characters before the version.
        end: characters before the flavour.
        rebuilt: characters before the rebuilds at the end of the tag.
    """

    kind: int
    numbers: Numbers = ()
    stages: tuple[Step, ...] = (_RELEASED,)
    name: Words = Words()
    flavour: Words = Words()
    rebuilds: tuple[Step, ...] = (_RELEASED,)
    depth: int = 0
    start: int = 0
    end: int = 0
    rebuilt: int = 0


def age_of(tag: str) -> Age:
    """Parse any tag."""
    if not _TAG.fullmatch(tag) or _HASHED.fullmatch(tag):
        return Age(_IS_NAME)
    dated = _DATE.match(tag)
    if dated is not None and not _DOTTED.search(dated["before"]):
        return _Reader(tag, dated.end("before"), dated.end()).read(_IS_DATE, _moment(dated))
    found, first = _VERSION.match(tag), _TOKEN.match(tag)
    if found is not None and not (first is not None and first["hash"]):
        numbers = _numbers(found["numbers"])
        if found["half"] and len(numbers) == 1:
            # Windows `20H2` is newer than `2004` and older than `21H1`.
            numbers = (numbers[0] * 100 + (5 if found["half"][1] == "1" else 10),)
        return _Reader(tag, 0, found.end()).read(_IS_VERSION, numbers) if numbers else Age(_IS_NAME)
    place = _place(tag)
    numbers = _numbers(place["number"]) if place is not None else ()
    if place is None or not numbers:
        return Age(_IS_NAME)
    return _Reader(tag, place.start("number"), place.end()).read(_IS_NAME, numbers)


def _place(tag: str) -> re.Match[str] | None:
    """Find the version in a tag that begins with a name: `app-1.2.3`, `node18-1.2.3`."""
    first = None
    for token in _TOKEN.finditer(tag):
        if token["number"] and "." in token["number"]:
            return token
        if token["number"]:
            first = first or token
    return first


def _moment(dated: re.Match[str]) -> Numbers:
    parts = (
        dated["year"], dated["month"] or dated["month2"], dated["day"] or dated["day2"],
        dated["hour"], dated["minute"], dated["second"],
    )  # fmt: skip
    return tuple(int(part) for part in parts if part is not None)


class _Reader:
    """The parser of the text around the numbers of a version or date."""

    def __init__(self, tag: str, start: int, end: int) -> None:
        self._tag = tag
        self._start = start
        self._at = end
        self._stages: list[Step] = []
        self._words: list[str] = []
        self._groups: list[Numbers] = []
        self._rebuilds: list[Step] = []
        self._end = self._rebuilt = len(tag)
        self._depth = 0

    def read(self, kind: int, numbers: Numbers) -> Age:
        self._depth = len(numbers)
        name = self._name()
        if pseudo := _PSEUDO.match(self._tag, self._at):
            self._stages.append((_STAGES.index("dev"), (int(pseudo["time"]),)))
            self._at = pseudo.end()
        tokens = list(_TOKEN.finditer(self._tag, self._at))
        waiting = zip_longest(tokens, tokens[1:])
        for token, following in waiting:
            if token["word"]:
                count = following if following is not None and following["number"] else None
                if self._word(token, count):
                    next(waiting)
            elif token["number"]:
                self._number(token, following)
        return Age(
            kind,
            numbers if kind == _IS_DATE else _trimmed(numbers),
            (*self._stages, _RELEASED),
            name,
            Words(tuple(self._words), tuple(self._groups)),
            (*self._rebuilds, _RELEASED),
            self._depth,
            self._start if name.words else 0,
            self._end,
            self._rebuilt,
        )

    def _name(self) -> Words:
        """Read the name before the numbers, without `v` and `release`."""
        words, groups = [], []
        for token in _TOKEN.finditer(self._tag, 0, self._start):
            if token["word"] and token["word"].lower() not in {"v", "version", "release"}:
                words.append(token["word"].lower())
            elif token["number"]:
                groups.append(_numbers(token["number"]))
        return Words(tuple(words), tuple(groups))

    def _number(self, token: re.Match[str], following: re.Match[str] | None) -> None:
        """Read a number without a word: of the flavour before it, or of a rebuild."""
        if self._words and not {"_", "+"}.intersection(token["gap"]):
            self._groups.append(_numbers(token["number"]))
            self._rebuilt = len(self._tag)
        elif token["number"] == "0" and following is not None and _stage(following["word"]):
            # `v1.2.3-0.dev`: the 0 makes it the first of its version in Semantic Versioning.
            return
        else:
            self._rebuilds.append((_REBUILT, _numbers(token["number"])))
            self._again(token)

    def _again(self, token: re.Match[str]) -> None:
        """Note where the rebuilds at the end begin."""
        self._rebuilt = min(self._rebuilt, token.start())

    def _word(self, token: re.Match[str], count: re.Match[str] | None) -> bool:
        """Read a word; return whether the number after it belongs to it."""
        word = token["word"].lower()
        numbers = _numbers(count["number"]) if count is not None else ()
        if self._is_rebuild(word, token["gap"], count):
            self._rebuilds.append((_REBUILT, numbers))
            self._again(token)
            return count is not None
        if self._is_letter(word, token["gap"], count):
            self._rebuilds.append((_REBUILT, (ord(word) - ord("a") + 1,)))
            self._again(token)
            return False
        if self._is_stage(word, count):
            steps = self._rebuilds or self._stages
            steps.append((_STAGES.index(_SAME_STAGE.get(word, word)), numbers))
            self._rebuilt = len(self._tag)
            return count is not None
        if word not in _FINAL or self._words:
            self._words.append(word)
            self._end = min(self._end, token.start())
            self._rebuilt = len(self._tag)
        return False

    def _is_rebuild(self, word: str, gap: str, count: re.Match[str] | None) -> bool:
        if "+" in gap or (count is None and word in _WITHOUT_NUMBER and not self._words):
            return True
        if count is None or (self._words and word not in _REBUILDS):
            return False
        if word == "b":
            # Builds of Java and of YugabyteDB; elsewhere `b` is short for beta.
            return bool(self._rebuilds) or (self._depth >= _MANY_NUMBERS and gap == "-")
        return word in _REBUILDS or word in _REBUILDS_OF_VERSIONS

    def _is_letter(self, word: str, gap: str, count: re.Match[str] | None) -> bool:
        """Whether a letter continues the version: `1.1.1w`."""
        is_joined = not gap and (count is None or bool(count["gap"]))
        return len(word) == 1 and is_joined and not self._words

    def _is_stage(self, word: str, count: re.Match[str] | None) -> bool:
        stage = _stage(word)
        if word in _SHORT and (count is None or count["gap"] not in {"", "."}):
            return False
        return stage is not None and (not self._words or stage in _STAGES_OF_FLAVOURS)


def _stage(word: str | None) -> str | None:
    """Return the stage that a word names; None for other words."""
    word = (word or "").lower()
    word = _SAME_STAGE.get(word, word)
    return word if word in _STAGES else None


def newest_first(tags: Iterable[str]) -> list[str]:
    """Sort tags: versions, newest first; then dates, newest first; then names.

    Within a version: the release before its earlier stages, more numbers before fewer, the plain
    tag before its flavours, and then larger numbers and later rebuilds first. Names are sorted
    alphabetically: first those with a number (`app-1.9.0`), the newest of each name first.
    """
    # Ties are sorted alphabetically, because the sort is stable.
    found = sorted(tags)
    found.sort(key=_key)
    return found


def _key(tag: str) -> bytes:
    """Return the sort key as bytes, since tuples of a million tags take a gigabyte."""
    age = age_of(tag)
    name = _words(age.name)
    return b"".join(
        (
            bytes((_IS_VERSION - age.kind, not age.numbers)),
            name if age.kind == _IS_NAME else b"",
            _backwards(age.numbers),
            _steps(age.stages),
            bytes((0xFF - age.depth if age.kind != _IS_DATE else 0,)),
            name,
            _words(age.flavour),
            _steps(age.rebuilds),
        )
    )


def chooser(
    *,
    semver: str | None = None,
    suffix: str | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> Callable[[str], bool] | None:
    """Return a predicate for tags; None without any condition.

    Args:
        semver: only versions in this range, see `in_range`.
        suffix: only tags that end with this flavour, or with a rebuild of it: `-alpine` matches
            `1.27-alpine` and `1.27-alpine-r2`. `*`, `?` and `[...]` are as in `include`.
        include: only tags that match one of these globs.
        exclude: no tags that match one of these globs.

    A range ignores a name or flavour that is requested: with suffix `-alpine` or glob `*-alpine`,
    `1.27-alpine` counts as 1.27; with `app-*`, `app-1.27` does. A glob that also matches without
    the flavour (`1.*`) does not request it.
    """
    within = _range(semver) if semver is not None else None
    ends = re.compile(f"(?P<body>.+?){_glob(suffix, '--suffix')}") if suffix is not None else None
    wanted = [re.compile(_glob(glob, "--include")) for glob in include]
    unwanted = [re.compile(_glob(glob, "--exclude")) for glob in exclude]
    if within is None and ends is None and not wanted and not unwanted:
        return None

    def chosen(tag: str) -> bool:
        if wanted and not any(pattern.match(tag) for pattern in wanted):
            return False
        if any(pattern.match(tag) for pattern in unwanted):
            return False
        body = tag
        if ends is not None:
            found = ends.match(tag) or ends.match(tag[: age_of(tag).rebuilt])
            if found is None:
                return False
            body = found["body"]
        return within is None or _is_within(body, within, wanted)

    return chosen


def in_range(text: str) -> Callable[[str], bool]:
    """Return a predicate for a range of versions in the syntax of npm and Cargo.

    `>=1.25`, `^1.2`, `~1.2`, `1.x`, `>=1.2 <2`, `1.2 - 1.4`, `1.2 || 2`. Only versions match.
    Rebuilds (`1.27.3-r2`, `_1`, `-debian-12-r5`) count as their version, flavours (`1.27-alpine`)
    do not match, and a pre-release matches only a range that names one of the same version, as in
    Semantic Versioning.

    Source: https://github.com/npm/node-semver, "Ranges".
    """
    within = _range(text)
    return lambda tag: _is_within(tag, within, ())


def _range(text: str) -> Callable[[Age], bool]:
    from semantic_version import NpmSpec, Version  # noqa: PLC0415 - for this question alone

    if len(text) > _MAX_TYPED:
        raise Usage(f"`--semver` allows at most {_MAX_TYPED} characters", "write it shorter")
    try:
        spec = NpmSpec(_WRITTEN_STAGE.sub(r"-\1.\2", text))
    except ValueError as error:
        raise Usage(
            f"`{text}` is not a range of versions",
            "write `>=1.25`, `^1.2`, `~1.2`, `1.x` or `>=1 <3`",
        ) from error

    def within(age: Age) -> bool:
        words: list[str] = []
        for rank, count in age.stages[:-1]:
            words += [_STAGES[rank], *map(str, count)]
        numbers = ".".join(map(str, (*age.numbers, 0, 0, 0)[:3]))
        return bool(spec.match(Version(f"{numbers}-{'.'.join(words)}" if words else numbers)))

    return within


#: `>=1.2.0-rc1`, which Semantic Versioning orders as `-rc.1`.
_WRITTEN_STAGE = re.compile(rf"-({'|'.join(_STAGES)})([0-9]+)", re.IGNORECASE)


def _is_within(tag: str, within: Callable[[Age], bool], wanted: Iterable[re.Pattern[str]]) -> bool:
    """Return whether a tag is a version in a range, apart from requested flavours."""
    age = age_of(tag)

    def is_asked_for(without: str) -> bool:
        return any(pattern.match(tag) and not pattern.match(without) for pattern in wanted)

    if not age.numbers or age.kind == _IS_DATE:
        return False
    if age.kind == _IS_NAME and not is_asked_for(tag[age.start :]):
        return False
    is_rebuild = age.rebuilt < len(tag)
    if age.flavour.words and not is_rebuild and not is_asked_for(tag[: age.end]):
        return False
    return within(age)


_GLOB = re.compile(r"[A-Za-z0-9_.+~*?!\[\]-]+")


def _glob(text: str, option: str) -> str:
    """Translate a glob to a regular expression; refuse one that cannot match a tag."""
    if len(text) > _MAX_TYPED:
        raise Usage(f"`{option}` allows at most {_MAX_TYPED} characters", "write it shorter")
    if not _GLOB.fullmatch(text):
        raise Usage(
            f"`{option} {text}` matches no tag",
            "write letters, digits, `_`, `.`, `-`; `*` stands for any text, `?` for one character",
        )
    return translate(text)


def _numbers(text: str) -> Numbers:
    """Parse numbers separated by dots; return none if one is too long."""
    parts = [part for part in text.split(".") if part]
    if len(parts) > _MAX_NUMBERS or any(len(part) > _MAX_DIGITS for part in parts):
        return ()
    return tuple(map(int, parts))


def _trimmed(numbers: Numbers) -> Numbers:
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers = numbers[:-1]
    return numbers


def _backwards(numbers: Numbers) -> bytes:
    """Encode numbers for descending order, each by length and digits."""
    return b"".join((*map(_backwards_one, numbers), b"\xff"))


@lru_cache(maxsize=4_096)
def _backwards_one(number: int) -> bytes:
    digits = number.to_bytes((number.bit_length() + 7) // 8)
    return bytes((0xFE - len(digits),)) + digits.translate(_COMPLEMENT)


_COMPLEMENT = bytes(range(0xFF, -1, -1))


@lru_cache(maxsize=1_024)
def _words(found: Words) -> bytes:
    words = b"".join(b"\x01%b\x00" % word.encode() for word in found.words)
    numbers = b"".join(b"\x00" + _backwards(number) for number in found.numbers)
    return b"%b\x00%b\x01" % (words, numbers)


@lru_cache(maxsize=1_024)
def _steps(steps: tuple[Step, ...]) -> bytes:
    return b"".join(bytes((0xFF - rank,)) + _backwards(count) for rank, count in steps)


@dataclass(frozen=True, slots=True)
class Tags:
    """Tags of a repository, in the registry's order."""

    repository: str
    names: tuple[str, ...]
