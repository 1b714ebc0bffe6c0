"""Keep answers in a file, for a restart, and merge the files of several runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from resolver.core.check.check import Checked
from resolver.core.lint.lint import Linted
from resolver.core.lockfile.drift import LockCheck
from resolver.core.lockfile.lock import Lock, write_lock
from resolver.core.oci.target import parse_target
from resolver.core.platforms.platform import BUILTIN
from resolver.core.results.events import Warned, ignore
from resolver.core.results.merge import Answered, Question, key_of, read_line, write_line
from resolver.core.results.resolve import Failure
from resolver.errors import OutputFault, ResolverError, Unavailable, Usage
from resolver.files.read import read_regular
from resolver.settings import LOCK_FILE
from resolver.verbs import lock_files
from resolver.verbs.threads import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from resolver.core.platforms.platform import PlatformTable
    from resolver.core.results.events import Observer
    from resolver.core.results.resolve import Resolution

Item = TypeVar("Item", bound="tuple[Any, ...]")
Found = TypeVar("Found")
#: Bytes of a file of results: about a million answers.
MAX_RESULTS = 1 << 30
#: Arguments of a verb that do not change its answers.
_ASIDE = frozenset({"now", "jobs"})


class Shard(NamedTuple):
    """One of several parts of a list of references; numbers start at 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, reference: str) -> bool:
        """Whether a reference belongs to this part: the same one wherever it is asked."""
        digest = hashlib.sha256(_name(reference).encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Shard:
        """Parse `I/N`; `auto` and `auto/N` take the number from the CI system or Kubernetes.

        Raises:
            Usage: it is none of these, or the variables are not set.
        """
        number, _, of = text.partition("/")
        if number == "auto":
            number, of = _numbers(of, environment, text)
        found = [int(each) if _DIGITS.fullmatch(each) else 0 for each in (number, of)]
        if not 1 <= found[0] <= found[1]:
            raise Usage(
                f"`--shard {text}` is not a part: {number or 'nothing'} of {of or 'nothing'}",
                "write `--shard I/N`, with I from 1 to N",
            )
        return cls(*found)


_DIGITS = re.compile(r"[0-9]{1,6}")
#: Variables of the number and the count of parallel jobs, and the first number. Sources: the pages
#: on predefined variables of GitLab CI, Buildkite, CircleCI, Bitbucket and Azure Pipelines.
_PARALLEL = (
    ("CI_NODE_INDEX", "CI_NODE_TOTAL", 1),
    ("BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", 0),
    ("CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL", 0),
    ("BITBUCKET_PARALLEL_STEP", "BITBUCKET_PARALLEL_STEP_COUNT", 0),
    ("SYSTEM_JOBPOSITIONINPHASE", "SYSTEM_TOTALJOBSINPHASE", 1),
)
#: Source: Kubernetes documentation, "Indexed Job".
_KUBERNETES = "JOB_COMPLETION_INDEX"


def _numbers(of: str, environment: Mapping[str, str], text: str) -> tuple[str, str]:
    """Return the number, from 1, and the count of this job among parallel ones."""
    names = [(_KUBERNETES, "", 0)] if of else _PARALLEL
    for number, count, first in names:
        if number in environment and (of or count in environment):
            found, total = environment[number], of or environment[count]
            is_number = _DIGITS.fullmatch(found)
            return (str(int(found) + 1 - first) if is_number else found), total
    listed = ", ".join(f"{number}" for number, _, _ in names)
    raise Usage(
        f"`--shard {text}` needs a variable that is not set: {listed}",
        "write `--shard auto` in a parallel CI job, `--shard auto/N` in an Indexed Job of "
        "Kubernetes with N completions, or `--shard I/N`",
    )


class Results:
    """A file of answers, one a line: read before the first question, and then appended to.

    Args:
        path: of the file; it is created if it does not exist.
        fresh: seconds for which an answer is used again. Failures are always asked again.
        shard: part of the references that this run asks; None for all.
        observe: receives a warning about damaged lines.
    """

    def __init__(
        self, path: str, fresh: float, shard: Shard | None = None, observe: Observer = ignore
    ) -> None:
        self._observe = observe
        self._path = path
        self._fresh = fresh
        self._shard = shard
        self._lock = threading.Lock()
        self._body = _read(path, missing=b"")
        self._is_torn = bool(self._body) and not self._body.endswith(b"\n")

    def each(
        self,
        table: PlatformTable,
        clean: Callable[[str], str],
        look: Callable[..., Found],
        items: Sequence[Item],
        ask: Callable[[Sequence[Item]], Iterator[Outcome[Item, Found]]],
    ) -> Iterator[Outcome[Item, Found]]:
        """Yield one outcome per item, in order: from the file, or asked and written to it."""
        verb, options = _question(look)
        platforms, file = _platforms(options), str(options.get("path", ""))
        tables = () if table is BUILTIN else (table,)
        keys = tuple(key_of(verb, item[0], options, _own(item), *tables) for item in items)
        self._append(clean, Question(verb, platforms, file, str(self._shard or ""), keys))
        known = self._read_answers()
        asked = [item for item, key in zip(items, keys, strict=True) if key not in known]
        outcomes = ask(asked)
        for item, key in zip(items, keys, strict=True):
            if key in known:
                yield Outcome(item, known[key])
                continue
            outcome = next(outcomes)
            self._append(clean, Answered(key, item[0], time.time(), outcome.value))
            yield outcome

    def _read_answers(self) -> dict[str, Any]:
        """Return fresh answers by key; later lines replace earlier ones."""
        known: dict[str, Any] = {}
        oldest = time.time() - self._fresh
        damaged = 0
        for text in self._body.splitlines():
            line = read_line(text)
            damaged += line is None
            if isinstance(line, Answered):
                known.pop(line.key, None)
                if line.at >= oldest and not isinstance(line.value, ResolverError):
                    known[line.key] = line.value
        if damaged:
            message = f"{damaged} damaged lines of `{self._path}` were ignored"
            self._observe(Warned("results-damaged", message))
        return known

    def _append(self, clean: Callable[[str], str], what: Question | Answered) -> None:
        line = write_line(what, clean)
        with self._lock:
            if self._is_torn:
                # A run was killed while it wrote.
                line, self._is_torn = b"\n" + line, False
            try:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
                descriptor = os.open(self._path, flags, 0o666)
                try:
                    while line:
                        line = line[os.write(descriptor, line) :]
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise OutputFault(
                    f"cannot write `{self._path}`: {error.strerror or error}",
                    "free some space, or name another file with `--results`",
                ) from error


def _name(reference: str) -> str:
    """Return the canonical form of a reference, or a malformed one as it is."""
    try:
        return str(parse_target(reference))
    except ResolverError:
        return reference


def _read(path: str, missing: bytes | None = None) -> bytes:
    try:
        body, _ = read_regular(path, MAX_RESULTS)
    except FileNotFoundError as error:
        if missing is not None:
            return missing
        raise Usage(f"there is no file `{path}`", "name the files of `--results`") from error
    except (OSError, ValueError) as error:
        raise Usage(f"cannot read `{path}`: {error}", "name a readable file") from error
    if len(body) > MAX_RESULTS:
        raise Usage(f"`{path}` is larger than {MAX_RESULTS} bytes", "begin a new file")
    return body


def _question(look: Callable[..., object]) -> tuple[str, dict[str, Any]]:
    """Return the verb behind a function, and its options."""
    function = look.func if isinstance(look, partial) else look
    options = look.keywords if isinstance(look, partial) else {}
    kept = {name: value for name, value in sorted(options.items()) if name not in _ASIDE}
    if kept.get("depths") is not None:
        kept["depths"] = (kept["depths"].most, kept["depths"].every)
    return function.__module__.rpartition(".")[2], kept


def _own(item: tuple[Any, ...]) -> object:
    """Return what an item asks besides its reference."""
    return item[2:]


def _platforms(options: Mapping[str, Any]) -> tuple[str | None, ...]:
    requests: Sequence[Any] = options.get("requests", ())
    return tuple(
        "all"
        if each is None
        else str(each.platforms[0])
        if getattr(each, "explicit", True)
        else None
        for each in requests
    )


class Merged(NamedTuple):
    """The answers of several runs of one verb.

    `answer` is what the verb returns for all references; for `resolve` a tuple of its answers.
    """

    verb: str
    answer: tuple[Resolution | Failure, ...] | Checked | Linted | LockCheck
    warnings: tuple[Warned, ...]


def merge(paths: Iterable[str], order: Iterable[str] = ()) -> Merged:
    """Join files of results into the answer that one run would have given.

    The newest answer to each question counts. `order` are the references of the whole list; without
    it they have the order of the files.

    Raises:
        Usage: a file cannot be read, or the files are of different verbs.
        Unavailable: an answer or a whole shard is missing.
    """
    questions: list[Question] = []
    answers: dict[str, Answered] = {}
    damaged = 0
    for path in dict.fromkeys(paths):
        for text in _read(path).splitlines():
            line = read_line(text)
            damaged += line is None
            if isinstance(line, Question):
                questions.append(line)
            elif line is not None:
                answers[line.key] = line
    verbs = sorted({question.verb for question in questions})
    if len(verbs) != 1:
        named = ", ".join(f"`{verb}`" for verb in verbs)
        reason = f"they are of different commands: {named}" if verbs else "they have no results"
        raise Usage(f"these files cannot be merged: {reason}", "name the files of `--results`")
    _refuse_missing(questions, answers)
    asked = dict.fromkeys(key for question in questions for key in question.keys)
    position = {_name(text): number for number, text in enumerate(order)}
    found = sorted(
        (answers[key] for key in asked),
        key=lambda each: position.get(each.reference, len(position)),
    )
    message = f"{damaged} damaged lines were ignored"
    warnings = (Warned("results-damaged", message),) if damaged else ()
    return Merged(verbs[0], _joined(questions[-1], found), warnings)


def _refuse_missing(questions: Sequence[Question], answers: Mapping[str, Answered]) -> None:
    shards = {question.shard for question in questions}
    counts = sorted({int(shard.partition("/")[2]) for shard in shards if shard})
    if len(counts) > 1 or (counts and "" in shards):
        raise Usage("these files are of different divisions into shards", "name those of one run")
    wanted = [f"{number}/{counts[0]}" for number in range(1, counts[0] + 1)] if counts else []
    missing = [shard for shard in wanted if shard not in shards]
    if missing:
        raise Unavailable(
            f"the results of shard {', '.join(missing)} are missing",
            f"run the same command again with `--shard {missing[0]}`, and merge its file too",
            code="shard-missing",
        )
    for question in questions:
        lost = sum(key not in answers for key in question.keys)
        if lost:
            shard = f" of shard {question.shard}" if question.shard else ""
            raise Unavailable(
                f"{lost} of {len(question.keys)} answers{shard} are missing",
                "run the same command again with the same `--results`: it asks only for those",
                code="answers-missing",
            )


def _joined(
    question: Question, found: Sequence[Answered]
) -> tuple[Resolution | Failure, ...] | Checked | Linted | LockCheck:
    """Return what the verb returns."""
    if question.verb == "resolve":
        return tuple(each for answered in found for each in _resolutions(answered, question))
    values = [
        Failure(each.reference, (), each.value)
        if isinstance(each.value, ResolverError)
        else each.value
        for each in found
    ]
    match question.verb:
        case "check":
            return Checked(tuple(values))
        case "lint":
            return Linted(tuple(values))
        case _:
            drifts = tuple(each if isinstance(each, Failure) else each[0] for each in values)
            warnings = [each[1] for each in values if not isinstance(each, Failure)]
            file = question.file or LOCK_FILE
            platforms = tuple(each for each in question.platforms if each)
            return LockCheck(file, platforms, drifts, tuple(chain.from_iterable(warnings)))


def _resolutions(answered: Answered, question: Question) -> Iterator[Resolution | Failure]:
    if isinstance(answered.value, ResolverError):
        for platform in question.platforms:
            wanted = (platform,) if platform else ()
            yield Failure(answered.reference, wanted, answered.value)
    else:
        yield from answered.value


class MergedDocument(NamedTuple):
    """Merged lock files or reports; `has_errors` if one of them reports an error."""

    text: str
    has_errors: bool


def merge_documents(paths: Sequence[str]) -> MergedDocument | None:
    """Join lock files, or reports of one form; None for files of results.

    Raises:
        Usage: a file cannot be read, or the files are of different forms.
        Malformed, BadLock: a lock file is invalid, or two have another digest for one reference.
    """
    bodies = {path: _read(path) for path in dict.fromkeys(paths)}
    forms = {path: _form(body) for path, body in bodies.items()}
    found = sorted({form for form in forms.values() if form})
    if not found:
        return None
    if len(found) > 1 or "" in forms.values():
        stray = next(path for path, form in forms.items() if form != forms[paths[0]])
        raise Usage(f"`{stray}` is of another form than `{paths[0]}`", "merge each form by itself")
    if found == ["lock"]:
        return MergedDocument(_merge_locks(paths), has_errors=False)
    if found == ["junit"]:
        return _merge_junit(bodies)
    documents = [json.loads(body) for body in bodies.values()]
    if found == ["sarif"]:
        runs = [run for document in documents for run in document["runs"]]
        failed = any(
            result.get("level") == "error" for run in runs for result in run.get("results", ())
        )
        return MergedDocument(json.dumps(documents[0] | {"runs": runs}, indent=2) + "\n", failed)
    issues = [issue for document in documents for issue in document]
    serious = any(issue.get("severity") in _SERIOUS for issue in issues)
    return MergedDocument(json.dumps(issues, indent=2) + "\n", serious)


#: Severities of Code Quality reports that `--report codequality` gives to errors and failures.
_SERIOUS = frozenset({"major", "critical", "blocker"})


def _form(body: bytes) -> str:
    """Return `lock`, `sarif`, `codequality` or `junit`; empty for results and anything else."""
    if body.lstrip().startswith(b"<"):
        return "junit"
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if isinstance(document, list):
        return "codequality" if all(isinstance(each, dict) for each in document) else ""
    if not isinstance(document, dict):
        return ""
    if isinstance(document.get("runs"), list):
        return "sarif" if all(isinstance(each, dict) for each in document["runs"]) else ""
    return "lock" if isinstance(document.get("images"), dict) else ""


def _merge_locks(paths: Iterable[str]) -> str:
    merged = Lock()
    for path in paths:
        lock = lock_files.load(path)
        known = {image.reference: image for image in merged.images}
        for image in lock.images:
            if known.get(image.reference, image) != image:
                raise Usage(
                    f"`{path}` has another digest for `{image.reference}` than the files before",
                    "resolve it again: `resolver lock --update`, or leave out one of the files",
                )
        merged = merged.merged(lock.images)
    return write_lock(merged).decode("ascii")


def _merge_junit(bodies: Mapping[str, bytes]) -> MergedDocument:
    """Put the suites of all files into one, and add their counts."""
    from xml.etree.ElementTree import tostring  # noqa: PLC0415 - for these reports alone

    whole: Any = None
    for path, body in bodies.items():
        root = _suites(path, body)
        if whole is None:
            whole = root
            continue
        whole.extend(root)
        for name in ("tests", "failures", "errors", "skipped"):
            counts = [each.get(name, "0") for each in (whole, root)]
            if name in {*whole.keys(), *root.keys()} and all(map(_DIGITS.fullmatch, counts)):
                whole.set(name, str(sum(map(int, counts))))
    text = '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(whole, "unicode") + "\n"
    has_errors = whole.find(".//failure") is not None or whole.find(".//error") is not None
    return MergedDocument(text, has_errors)


def _suites(path: str, body: bytes) -> Any:
    """Return the root of a JUnit report."""
    from xml.etree.ElementTree import ParseError, fromstring  # noqa: PLC0415 - as above

    try:
        # Only a document type can define entities, which could expand without a limit.
        root = None if b"<!" in body else fromstring(body)  # noqa: S314 - as the line above says
    except ParseError as error:
        raise Usage(f"`{path}` is not a JUnit report: {error}", "name other files") from error
    if root is None or root.tag != "testsuites":
        raise Usage(f"`{path}` is not a JUnit report", "name other files")
    return root
