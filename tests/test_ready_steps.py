"""The composite action and CI templates: their commands are extracted and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import parse

import pytest
import yaml
from jsonschema.validators import validator_for

from resolver import Session
from resolver.core.pin.kinds import may_be_known
from resolver.demo import samples
from resolver.verbs.serve.api import MemoryShelf
from resolver.verbs.serve.server import serve
from tests.kit.ci_systems import azure_commands, github_commands, read_dotenv, read_github_file
from tests.kit.processes import ROOT, python

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ACTION = ROOT / "scripts" / "action" / "action.yml"
PINNED = ROOT / "tests" / "data" / "pin"
TEMPLATES = ROOT / "scripts" / "ci"
ARM = "sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a"
#: `${{ inputs.NAME }}`, `${{ steps.ID.outputs.NAME }}`, `${{ parameters.NAME }}`: all we use.
EXPRESSION = re.compile(r"\$\{\{ ([a-z_.]+) \}\}")


@dataclass
class Machine:
    """A machine of a CI system: a Python without resolver, and folders of its own."""

    folder: Path
    variables: dict[str, str]
    log: str = ""
    outputs: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, **variables: str) -> int:
        """Run a program and log its output."""
        done = subprocess.run(
            words,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self.variables, **variables},
            cwd=self.folder,
            timeout=120,
        )
        self.log += done.stdout.decode()
        return done.returncode


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    with serve(MemoryShelf(samples())) as server:
        yield server.address


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A Python whose `pip install` builds this checkout offline, with the dependencies in reach."""
    place = tmp_path / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    folder = tmp_path / "work"
    folder.mkdir()
    return Machine(
        folder,
        {
            "PATH": f"{place / 'bin'}:/usr/bin:/bin",
            "HOME": str(tmp_path / "home"),
            "RESOLVER_STORE": str(tmp_path / "store"),
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            # pip reads this one upside down: `0` is what `--no-build-isolation` sets.
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_NO_CACHE_DIR": "1",
        },
    )


def filled(text: object, known: Mapping[str, str]) -> str:
    """Replace expressions by values, as GitHub and Azure do before a script runs."""
    return EXPRESSION.sub(lambda match: known.get(match[1], ""), str(text))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def problems(schema: str, value: Any) -> list[str]:
    """Check a file of a CI system against the schema that SchemaStore publishes."""
    place = files("check_jsonschema") / "builtin_schemas" / "vendor" / f"{schema}.json"
    known = json.loads(place.read_text("utf-8"))
    return [error.message for error in validator_for(known)(known).iter_errors(value)]


# GitHub: the composite action


def steps() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read(ACTION)["runs"]["steps"]
    return found


def use_action(machine: Machine, **given: str) -> int:
    """Run the action as a runner does: each script in bash, outputs by file, stop at a failure."""
    action = read(ACTION)
    known = {f"inputs.{name}": row.get("default", "") for name, row in action["inputs"].items()}
    known |= {f"inputs.{name}": value for name, value in given.items()}
    status = 0
    for number, step in enumerate(steps()):
        if "run" not in step or status:
            continue
        script, output = machine.folder / f"{number}.sh", machine.folder / f"{number}.out"
        script.write_text(step["run"])
        output.touch()
        status = machine.run(
            *("bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)),
            **{name: filled(value, known) for name, value in step.get("env", {}).items()},
            GITHUB_OUTPUT=str(output),
            GITHUB_STEP_SUMMARY=str(machine.folder / "summary.md"),
            RUNNER_TEMP=str(machine.folder),
        )
        for name, value in read_github_file(output.read_text()).items():
            known[f"steps.{step.get('id')}.outputs.{name}"] = value
    machine.outputs = {name: filled(row["value"], known) for name, row in action["outputs"].items()}
    return status


def test_github_action_is_valid_by_its_schema() -> None:
    assert problems("github-actions", read(ACTION)) == []


def test_action_inputs_are_not_pasted_into_scripts_and_actions_are_pinned() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]
    lines = [line for line in ACTION.read_text().splitlines() if "uses: actions/" in line]

    assert all("${{" not in step["run"] for step in steps() if "run" in step)
    assert all(step["shell"] == "bash" for step in steps() if "run" in step)
    assert all(step["run"].startswith("set -euo pipefail\n") for step in steps() if "run" in step)
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", name) for name in used)
    assert len(lines) == len(used) == 2
    assert all(re.search(r"[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+$", line) for line in lines)


def test_action_cache_key_contains_the_lock_file_hash() -> None:
    (cache,) = [step for step in steps() if step.get("uses", "").startswith("actions/cache@")]

    assert "hashFiles(inputs.lock)" in cache["with"]["key"]
    assert cache["with"]["path"] == "${{ steps.place.outputs.store }}"
    assert cache["with"]["key"].startswith(cache["with"]["restore-keys"])


def test_action_installs_resolver_and_sets_outputs(machine: Machine, registry: str) -> None:
    command = f"resolve\n  {registry}/demo/app:1.0 --platform linux/arm64\n"
    status = use_action(machine, path=str(ROOT), command=command, sarif="r.sarif")

    assert (status, machine.outputs["status"]) == (0, "0"), machine.log
    assert machine.outputs["digest"] == ARM
    assert machine.outputs["ref"] == f"{registry}/demo/app@{ARM}"
    assert machine.outputs["platform"] == "linux/arm64/v8"
    assert json.loads(machine.outputs["json"])["manifest"]["digest"] == ARM
    assert "**resolver resolve**: passed" in (machine.folder / "summary.md").read_text()
    assert json.loads((machine.folder / "r.sarif").read_text())["version"] == "2.1.0"
    assert (machine.folder / "resolver-store").is_dir()
    machine.run("python", "-c", "import resolver; print(resolver.__file__)")
    assert machine.log.splitlines()[-1].startswith(str(machine.folder.parent)), "not this checkout"


@pytest.fixture
def installed(machine: Machine) -> Machine:
    """A machine with resolver installed, where `pip` does nothing."""
    python = Path(machine.variables["PATH"].partition(":")[0]) / "python3"
    program = python.parent / "resolver"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m resolver "$@"\n')
    program.chmod(0o700)
    (python.parent / "python").unlink()
    (python.parent / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> pip.log\n')
    (python.parent / "python").chmod(0o700)
    machine.variables |= {n: v for n, v in os.environ.items() if n.startswith("COV_")}
    return machine


def test_failing_action_explains_and_sets_outputs(installed: Machine, registry: str) -> None:
    status = use_action(installed, command=f"resolve {registry}/demo/app:1.0 -p linux/s390x")

    assert (status, installed.outputs["status"]) == (3, "3")
    assert [each.name for each in github_commands(installed.log)] == ["error"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "multiarch-resolver"),
        ({"version": "1.2.3"}, "multiarch-resolver==1.2.3"),
        ({"path": "./a b"}, "./a b"),
        ({"path": "--index-url=http://evil"}, "--index-url=http://evil"),
    ],
)
def test_action_installs_the_requested_version_and_no_option(
    installed: Machine, given: dict[str, str], wanted: str
) -> None:
    use_action(installed, command="--version", **given)
    stated = (installed.folder / "pip.log").read_text().splitlines()

    assert stated == [f"-P -m pip install --quiet --disable-pip-version-check -- {wanted}"]


def test_action_command_is_not_evaluated_by_the_shell(installed: Machine) -> None:
    hostile = "resolve $(touch one) `touch two` ; touch three && touch four > five *"
    status = use_action(installed, command=hostile)

    assert status == 2
    assert not {"one", "two", "three", "four", "five"} & {
        path.name for path in installed.folder.iterdir()
    }


def test_action_runs_nothing_from_the_checkout(machine: Machine, registry: str) -> None:
    for name in ("pip.py", "resolver.py"):
        (machine.folder / name).write_text("raise SystemExit('the checkout ran')\n")
    (machine.folder / "python").write_text("#!/bin/sh\nexit 99\n")
    status = use_action(machine, path=str(ROOT), command=f"tags {registry}/demo/app")

    assert status == 0, machine.log
    assert "the checkout ran" not in machine.log


def test_every_action_output_is_a_command_value(installed: Machine, registry: str) -> None:
    name = f"{registry}/demo/app:1.0"
    (installed.folder / "Dockerfile").write_text(f"FROM {name}\n")
    given: set[str] = set()
    for command, output, wanted in (
        (f"resolve {name} -p linux/arm64", "digest", ARM),
        (f"check {name} --require linux/s390x", "passed", "false"),
        (f"lock {name}", "status", "0"),
        ("lock --check", "drifted", "false"),
        (f"compare {name} --expect linux/s390x", "reasons", f"`{name}` is not offered"),
        ("pin Dockerfile", "changed_files", "Dockerfile"),
    ):
        use_action(installed, command=command)
        assert installed.outputs[output].startswith(wanted), installed.log
        given |= {key for key, value in installed.outputs.items() if value}
    use_action(installed, command=f"matrix {name} -p linux/arm64")
    (job,) = json.loads(installed.outputs["matrix"])["include"]

    assert (job["digest"], job["runner"]) == (ARM, "ubuntu-24.04-arm")
    # Nothing has moved here.
    assert given | {"matrix", "moved"} == set(read(ACTION)["outputs"])


def test_action_report_path_is_not_evaluated(installed: Machine, registry: str) -> None:
    name = "a $(touch one)`touch two`\"'\n;touch three\n.sarif"
    status = use_action(installed, command=f"resolve {registry}/demo/app:1.0", sarif=name)

    assert status == 0, installed.log
    assert (installed.folder / name).is_file()
    assert not {"one", "two", "three"} & {path.name for path in installed.folder.iterdir()}


@pytest.mark.parametrize("command", ["", " \n "])
def test_action_without_a_command_reports_it(installed: Machine, command: str) -> None:
    assert use_action(installed, command=command) == 2
    assert "there is no command to run" in installed.log


def test_action_store_name_must_be_one_line(installed: Machine) -> None:
    assert use_action(installed, command="ls", store="a\nb=c") == 2
    assert "the name of the store is one line" in installed.log


def test_action_uses_the_requested_store_without_a_summary(installed: Machine) -> None:
    status = use_action(installed, command="du", store="here", summary="false")

    assert status == 0, installed.log
    assert not (installed.folder / "summary.md").exists()


# GitLab


def test_gitlab_template_is_valid_by_its_schema() -> None:
    assert problems("gitlab-ci", read(TEMPLATES / "gitlab.yml")) == []


def test_gitlab_job_passes_values_to_later_jobs(machine: Machine, registry: str) -> None:
    pipeline = read(TEMPLATES / "gitlab.yml")
    job, use = pipeline["resolve-image"], pipeline["use-image"]
    variables = {
        **pipeline["variables"],
        "RESOLVER_STORE": job["variables"]["RESOLVER_STORE"].replace(
            "$CI_PROJECT_DIR", str(machine.folder)
        ),
        "IMAGE": f"{registry}/demo/app:1.0",
        "PLATFORM": "linux/arm64",
        "RESOLVER_INSTALL": str(ROOT),
    }
    script = "\n".join([*job["before_script"], *job["script"]])
    status = machine.run("bash", "-eo", "pipefail", "-c", script, **variables)
    reports = {name: machine.folder / path for name, path in job["artifacts"]["reports"].items()}

    assert status == 0, machine.log
    assert parse(reports["junit"]).getroot().get("errors") == "0"
    assert json.loads(reports["codequality"].read_text()) == []
    handed = read_dotenv(reports["dotenv"].read_text())
    assert handed["RESOLVED_DIGEST"] == ARM
    machine.run("bash", "-eo", "pipefail", "-c", "\n".join(use["script"]), **handed)
    stated = f"{registry}/demo/app@{ARM} is what {registry}/demo/app:1.0 means on linux/arm64/v8\n"
    assert machine.log.endswith(stated)
    assert use["needs"] == ["resolve-image"]


# Azure


def test_azure_template_is_valid_by_its_schema() -> None:
    assert problems("azure-pipelines", read(TEMPLATES / "azure.yml")) == []


def test_azure_steps_pass_values_to_later_steps(machine: Machine, registry: str) -> None:
    template = read(TEMPLATES / "azure.yml")
    known = {f"parameters.{row['name']}": row["default"] for row in template["parameters"]} | {
        "parameters.image": f"{registry}/demo/app:1.0",
        "parameters.platform": "linux/arm64",
        "parameters.install": str(ROOT),
    }
    machine.variables["AGENT_TEMPDIRECTORY"] = str(machine.folder)
    variables: dict[str, str] = {}
    for step in template["steps"]:
        if "bash" not in step:
            continue
        assert "${{" not in step["bash"]
        assert "$(" not in step["bash"]
        given = {name: filled(value, known) for name, value in step["env"].items()}
        given = {name: variables.get(value, value) for name, value in given.items()}
        assert machine.run("bash", "-c", step["bash"], **given) == 0, machine.log
        for command in azure_commands(machine.log):
            if command.name == "task.setvariable":
                variables[f"$({step.get('name')}.{command.facts['variable']})"] = command.data
    (summary,) = [c.data for c in azure_commands(machine.log) if c.name == "task.uploadsummary"]

    assert machine.log.endswith(f"{registry}/demo/app@{ARM} is what the tag means\n")
    assert "passed" in Path(summary).read_text()
    assert (machine.folder / "resolver-junit.xml").is_file()


# Tekton


def test_tekton_task_writes_every_declared_result(machine: Machine, registry: str) -> None:
    task = read(TEMPLATES / "tekton-task.yaml")
    (step,) = task["spec"]["steps"]
    results = machine.folder / "results"
    results.mkdir()
    known = {
        "$(params.image)": f"{registry}/demo/app:1.0",
        "$(params.platform)": "linux/arm64",
        "$(params.install)": str(ROOT),
        "$(results.status.path)": str(results / "status"),
    }
    variables = {row["name"]: known[row["value"]] for row in step["env"]}
    script = machine.folder / "script"
    script.write_text(step["script"])
    script.chmod(0o700)
    declared = {row["name"] for row in task["spec"]["results"]}

    assert not any(name in step["script"] for name in known)
    assert {row["name"] for row in task["spec"]["params"]} == {"image", "platform", "install"}
    assert machine.run(str(script), **variables) == 0, machine.log
    assert declared <= {path.name for path in results.iterdir()}
    assert (results / "digest").read_text() == ARM


# Jenkins


def test_jenkins_shell_steps_pass_values_on(machine: Machine, registry: str) -> None:
    text = (TEMPLATES / "Jenkinsfile").read_text()
    scripts = re.findall(r"sh '''\n(.*?)'''", text, re.DOTALL)
    parameters = set(re.findall(r"string\(name: '([A-Z]+)'", text))
    variables = {
        "IMAGE": f"{registry}/demo/app:1.0",
        "PLATFORM": "linux/arm64",
        "INSTALL": str(ROOT),
    }

    assert len(scripts) == text.count("sh ") == 3
    assert parameters == set(variables)
    # The dependencies are in reach of every Python, also of one that the steps make.
    variables["PYTHONPATH"] = sysconfig.get_paths()["purelib"]
    assert text.count("{") == text.count("}")
    for script in scripts:
        assert machine.run("sh", "-e", "-c", script, **variables) == 0, machine.log
    stated = f"{registry}/demo/app@{ARM} is what {registry}/demo/app:1.0 means on linux/arm64/v8\n"
    assert machine.log.endswith(stated)
    (report,) = re.findall(r"junit '([^']+)'", text)
    assert parse(machine.folder / report).getroot().get("errors") == "0"
    # Nothing is installed into the Python of the machine, which may refuse it.
    (packages,) = (machine.folder.parent / "python").glob("lib/python*/site-packages")
    assert [path.name for path in packages.iterdir()] == ["dependencies.pth"]


def hook(name: str) -> dict[str, Any]:
    """Return a hook of `.pre-commit-hooks.yaml`."""
    (found,) = (each for each in read(ROOT / ".pre-commit-hooks.yaml") if each["id"] == name)
    assert found["language"] == "python"
    return dict(found)


def run_hook(name: str, folder: Path, *changed: str) -> subprocess.CompletedProcess[bytes] | None:
    """Run a hook on changed files as pre-commit does; None if it takes none of them."""
    found = hook(name)
    # Source: pre-commit, `commands/run.py`: `files` is searched, not matched from the start.
    taken = [path for path in changed if re.search(found["files"], path)]
    program, *words = shlex.split(found["entry"])
    assert program == "resolver"
    files_of = taken if found.get("pass_filenames", True) else []
    return python("-m", "resolver", *words, *files_of, cwd=folder) if taken else None


def test_pre_commit_hook_takes_the_files_that_pin_may_know() -> None:
    pattern = hook("resolver-pin-check")["files"]
    samples = [path.relative_to(PINNED).as_posix() for path in PINNED.rglob("*") if path.is_file()]
    samples += [
        "README.md",
        "src/Dockerfile.go/x",
        "app.tf",
        "ci/docker-bake.hcl",
        "k/kustomization",
    ]

    taken = [path for path in samples if re.search(pattern, path)]

    assert taken == [path for path in samples if may_be_known(path)]
    assert 20 < len(taken) < len(samples)


def test_pre_commit_hook_fails_for_an_unpinned_image(registry: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {registry}/demo/app:1.0\n")
    (tmp_path / "settings.yaml").write_text("a: 1\n")

    unpinned = run_hook("resolver-pin-check", tmp_path, "Dockerfile", "settings.yaml", "README.md")
    assert python("-m", "resolver", "pin", "Dockerfile", cwd=tmp_path).returncode == 0
    pinned = run_hook("resolver-pin-check", tmp_path, "Dockerfile")

    assert unpinned is not None
    assert unpinned.returncode == 1
    assert b"is not pinned" in unpinned.stdout
    assert pinned is not None
    assert pinned.returncode == 0
    assert run_hook("resolver-pin-check", tmp_path, "README.md") is None


def test_pre_commit_hook_fails_for_a_lock_that_is_not_current(
    registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/demo/app:1.0"
    assert python("-m", "resolver", "lock", name, cwd=tmp_path).returncode == 0
    lock = tmp_path / "resolver.lock"

    current = run_hook("resolver-lock-check", tmp_path, "resolver.lock")
    # As if the tag had pointed to other bytes: a new digest of the index, and of one platform.
    with Session(tmp_path / "store") as session:
        (index,) = session.lock_entries(file=lock)
        (image,) = session.lock_entries(platform="linux/arm64", file=lock)
    text = lock.read_text().replace(str(index.digest), f"sha256:{'0' * 64}")
    lock.write_text(text.replace(str(image.digest), f"sha256:{'1' * 64}"))
    moved = run_hook("resolver-lock-check", tmp_path, "resolver.lock")

    assert current is not None
    assert current.returncode == 0
    assert moved is not None
    assert moved.returncode == 1
    assert run_hook("resolver-lock-check", tmp_path, "Dockerfile") is None
