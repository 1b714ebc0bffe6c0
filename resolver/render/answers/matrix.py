"""Job matrices in the format of each CI system: ASCII JSON, which is valid YAML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from resolver.core.platforms.platform import percent_encode
from resolver.core.results.matrix import too_large
from resolver.render.report import Report, ReportTable, short
from resolver.render.to_dict import bare, warnings

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.results.matrix import Job, Matrix
    from resolver.render.to_dict import Plain


#: Characters of the name of a GitLab job, which contains the values of its variables.
#: Source: gitlab-org/gitlab issue 263401; `ci_builds.name` has 255.
GITLAB_NAME = 255
#: Of those, characters for the name of the job in the file, and the separator.
_GITLAB_OWN = 35

Fields = dict[str, str | None]


def matrix_text(matrix: Matrix) -> str:
    """Return a matrix in the format of its CI system, with a line break at the end."""
    return FORMS[matrix.system](matrix)


def fields(job: Job) -> Fields:
    """Return the fields of a job; all jobs have the same, empty if they do not apply."""
    platform = job.platform
    return {
        "platform": str(platform),
        "os": platform.os,
        "arch": platform.architecture,
        "variant": platform.variant,
        "os_version": percent_encode(platform.os_version),
        "digest": str(job.digest),
        "ref": job.ref,
        "runner": job.runner,
    }


def _github(matrix: Matrix) -> str:
    """Return one line, for `$GITHUB_OUTPUT` and `fromJSON`."""
    include = {"include": [fields(job) for job in matrix.jobs]}
    return json.dumps(include, separators=(",", ":")) + "\n"


def _json(matrix: Matrix) -> str:
    return json.dumps([fields(job) for job in matrix.jobs], indent=2) + "\n"


def _gitlab(matrix: Matrix) -> str:
    """Return a hidden job to include and extend: `extends: .resolver-matrix`.

    The repository is the same for all jobs, so it is not one of the variables in their names.
    """
    rows = []
    for job in matrix.jobs:
        written = {name: value or "" for name, value in fields(job).items() if name != "ref"}
        length = len(", ".join(written.values()))
        if length > GITLAB_NAME - _GITLAB_OWN:
            raise too_large(
                "GitLab CI",
                GITLAB_NAME - _GITLAB_OWN,
                length,
                f"characters of values for `{job.platform}`",
                "give the runner a shorter tag",
            )
        rows.append(json.dumps({name.upper(): [value] for name, value in written.items()}))
    image = json.dumps({"IMAGE": matrix.repository} if matrix.repository else {})
    jobs = ",\n      ".join(rows)
    return f"""{{
  ".resolver-matrix": {{
    "variables": {image},
    "parallel": {{"matrix": [
      {jobs}
    ]}}
  }}
}}
"""


#: Every format, by the name of the system.
FORMS: dict[str, Callable[[Matrix], str]] = {"github": _github, "gitlab": _gitlab, "json": _json}


def report(answer: Matrix, *, explain: bool = False, full: bool = False) -> Report:
    """Turn a matrix into a report."""
    del explain
    facts = (("image", answer.reference), ("digest", str(answer.root.digest)))
    rows = tuple(
        (str(job.platform), short(job.digest, full=full), job.runner or "-") for job in answer.jobs
    )
    return Report(
        answer.reference, facts, (ReportTable("jobs", ("platform", "digest", "runner"), rows),)
    )


def plain(answer: Matrix) -> Plain:
    """Turn a matrix into plain values."""
    return {
        "reference": answer.reference,
        "root": bare(answer.root),
        "include": [fields(job) for job in answer.jobs],
        "warnings": warnings(answer.warnings),
    }


def pairs(answer: Matrix) -> list[tuple[str, str]]:
    """Return the digest and reference of the image of each job."""
    return [(str(job.digest), job.ref) for job in answer.jobs]
