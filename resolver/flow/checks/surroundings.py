"""What is around: tools to hand images to, the terminal, the CI system, variables of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.marked import similar
from resolver.core.variables import PREFIX, VARIABLES
from resolver.flow.checks.machine import note, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.checkup import Row
    from resolver.flow.checks.machine import Machine

#: What `export --to` says, and the program that takes the images.
_TOOLS = (("docker", "docker"), ("podman", "podman"), ("containerd", "ctr"))


def tools(machine: Machine) -> Iterator[Row]:
    """Say which tools of this machine images can be handed to."""
    for name, program in _TOOLS:
        path = machine.program(program)
        if path is None:
            found = f"`{program}` is not on PATH; only `export --to {name}` needs it"
            yield note("tools", name, found, present=False)
        else:
            yield ok("tools", name, path, path=path, present=True)


def terminal(machine: Machine) -> Iterator[Row]:
    """Say what progress of a pull looks like here, and whether anybody can be asked."""
    seat = machine.console
    progress = "live" if seat.stderr and not seat.system else "in lines"
    asks = "asked for" if seat.stdin and seat.stderr else "never asked for: --password-stdin"
    found = f"progress is shown {progress}; a password is {asks}; no colours are used"
    facts = {"stdin": seat.stdin, "stdout": seat.stdout, "stderr": seat.stderr}
    yield ok("terminal", "terminal", found, **facts)
    if seat.system:
        found = f"{seat.system}; `--emit auto` hands over to it"
        yield ok("terminal", "CI", found, system=seat.system)
    elif machine.environment.get("CI"):
        found = "`CI` is set, and by no system that `--emit auto` knows"
        yield note("terminal", "CI", found, "resolver help ci", system="")


def variables(machine: Machine) -> Iterator[Row]:
    """Say which variables of ours are set; a name that nobody reads is a typing error."""
    yield from machine.set_aside
    told = {row.name for row in machine.set_aside}
    for name in sorted(each for each in machine.environment if each.startswith(PREFIX)):
        known = VARIABLES.get(name)
        if name in told:
            continue
        if known is None:
            yield _unknown(name)
        elif not machine.environment[name]:
            yield ok("variables", name, "set, and empty: the same as not set")
        else:
            says = f", as {known.option}" if known.option else ""
            yield ok("variables", name, f"set{says}")


def _unknown(name: str) -> Row:
    # Without what all begin with, which is alike; `similar` compares in lower case, with dashes.
    spelled = {each.removeprefix(PREFIX).lower().replace("_", "-"): each for each in VARIABLES}
    meant = spelled.get(similar(name.removeprefix(PREFIX), tuple(spelled)), "")
    hint = f"did you mean `{meant}`?" if meant else "unset it; see `resolver help configuration`"
    return warning("variables", name, "nothing reads this variable", hint, meant=meant)
