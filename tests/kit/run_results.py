"""Results of commands, and an answer with findings for render tests."""

from __future__ import annotations

from dataclasses import dataclass

from resolver.core.lint.findings import Finding, FindingPlace, Rule, Severity
from resolver.core.results.run import Fault, RunResult
from resolver.render.report import Report

#: Text that tries to be a command of each system, to end a file early, and to break a line.
HOSTILE = (
    "::set-output name=a::b\n##vso[task.setvariable variable=x]y\r##[error]z\x00"
    "\u2028::error::q\u2029$(id)`id`'\"\\%0A::warning::w\ud800"
)
RULES = (
    Rule("build-missing", Severity.ERROR, "a platform is missing", "It was required. Build it."),
    Rule("old-image", Severity.WARNING, "the image is old", "Rebuild it."),
    Rule("no-sbom", Severity.NOTE, "there is no SBOM", "Attach one."),
)
MISSING = Finding(
    "build-missing",
    Severity.ERROR,
    "`linux/s390x` is missing",
    "docker.io/library/app:1",
    "linux/s390x",
    hint="it offers `linux/amd64`",
)
OLD = Finding(
    "old-image",
    Severity.WARNING,
    "it is 400 days old",
    "Dockerfile",
    place=FindingPlace("./build/Dockerfile", 3, 6),
)
NOTE = Finding("no-sbom", Severity.NOTE, "it has no SBOM", "docker.io/library/app:1")
EVIL = Finding(
    "build-missing",
    Severity.ERROR,
    HOSTILE,
    f"evil/{HOSTILE}",
    HOSTILE,
    HOSTILE,
    HOSTILE,
    FindingPlace(f"/abs/{HOSTILE}", 1),
)
FAULT = Fault(
    "platform-not-offered", "PLATFORM", 3, "`app:1` is not offered", ("see others",), "app:1"
)


@dataclass(frozen=True, slots=True)
class Answered:
    """What `check` might answer."""

    reference: str
    findings: tuple[Finding, ...]


def report(answer: Answered, *, explain: bool = False, full: bool = False) -> Report:
    del explain, full
    return Report(answer.reference, (("findings", str(len(answer.findings))),))


def plain(answer: Answered) -> dict[str, object]:
    messages = [finding.message for finding in answer.findings]
    return {"reference": answer.reference, "findings": messages}


def ending(
    *findings: Finding,
    faults: tuple[Fault, ...] = (),
    status: int = 0,
    source: str = "",
    folder: str = "",
) -> RunResult:
    answers = (Answered("docker.io/library/app:1", findings),)
    return RunResult("check", "1.2.3", answers, faults, (), status, source, folder)
