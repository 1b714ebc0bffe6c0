"""The command line: commands registered, failures turned into words and statuses."""

from __future__ import annotations

import errno
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from resolver.cli.options import EPILOG, SHARED, is_completing
from resolver.cli.output import HungUp, Output, check_stdout, guard_streams, leave, presentable
from resolver.errors import OutputFault, ResolverError, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

#: Interrupted, as shells count it: 128 and the signal's number.
INTERRUPTED = 130
TERMINATED = 143
#: A defect of ours. Source: sysexits.h, EX_SOFTWARE.
DEFECT = 70
_STDOUT = 1

#: Every command: group, name, and the module that holds a function of that name. To add one,
#: write the module and add a row.
COMMANDS = (
    ("Ask", "resolve", "resolver.cli.resolve"),
    ("Ask", "platforms", "resolver.cli.inspect"),
    ("Ask", "inspect", "resolver.cli.inspect"),
    ("Ask", "tags", "resolver.cli.tags"),
    ("Ask", "search", "resolver.cli.search"),
    ("Ask", "quota", "resolver.cli.search"),
    ("Compare", "compare", "resolver.cli.compare"),
    ("Pull", "plan", "resolver.cli.pull"),
    ("Pull", "pull", "resolver.cli.pull"),
    ("Pull", "export", "resolver.cli.export"),
    ("Store", "ls", "resolver.cli.ls"),
    ("Store", "rm", "resolver.cli.rm"),
    ("Store", "gc", "resolver.cli.gc"),
    ("Store", "verify", "resolver.cli.verify"),
    ("Store", "du", "resolver.cli.verify"),
    ("CI", "check", "resolver.cli.check"),
    ("CI", "lint", "resolver.cli.lint"),
    ("CI", "matrix", "resolver.cli.matrix"),
    ("CI", "pin", "resolver.cli.pin"),
    ("CI", "lock", "resolver.cli.lock"),
    ("Run", "serve", "resolver.cli.serve"),
    ("Run", "mirror-config", "resolver.cli.serve"),
    ("Run", "demo", "resolver.cli.demo"),
    ("Run", "login", "resolver.cli.login"),
    ("Run", "logout", "resolver.cli.login"),
    ("Run", "doctor", "resolver.cli.doctor"),
    ("Help", "help", "resolver.cli.help"),
    ("Help", "options", "resolver.cli.help"),
)

#: `ClickException`, wherever this Typer keeps it: inside since 0.26, in click before.
_Refused: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


class Grouped(TyperGroup):
    """A help page whose commands stand in groups, without rich."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options first, then one section per group."""
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each group under its heading, in the order of the table."""
        for group in dict.fromkeys(row[0] for row in COMMANDS):
            rows = []
            for each, name, _module in COMMANDS:
                command = self.get_command(ctx, name)
                if each == group and command is not None:
                    rows.append((name, command.get_short_help_str(60)))
            if rows:
                with formatter.section(group):
                    formatter.write_dl(rows)


def _version(asked: bool) -> None:
    if asked:
        from resolver._version import __version__

        Output().answer(f"resolver {__version__}\n")
        raise typer.Exit


def build(names: Sequence[str]) -> Any:
    """Make the application with these commands; one is enough to run that one."""
    app = typer.Typer(
        cls=Grouped,
        name="resolver",
        help="Which image is this tag, really, on that platform?",
        epilog="Each command explains itself: resolver COMMAND --help\n\n"
        "There is more to read: resolver help TOPIC",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 80},
    )

    @app.callback()
    def root(
        *,
        version: Annotated[
            bool,
            typer.Option(
                "--version", callback=_version, is_eager=True, help="Print the version and stop."
            ),
        ] = False,
    ) -> None:
        del version

    for _group, name, module in COMMANDS:
        if name in names:
            function = getattr(import_module(module), name.replace("-", "_"))
            app.command(name, epilog=EPILOG)(function)
    return typer.main.get_command(app)


def run(arguments: list[str]) -> int:  # noqa: PLR0911 - one return per way to end
    """Run one command line and give its exit status; nothing but a status ever leaves."""
    arguments = arguments or ["--help"]
    known = [name for _group, name, _module in COMMANDS]
    first = next((word for word in arguments if not word.startswith("-")), "")
    names = [first] if first in known and arguments[0] == first else known
    output = Output()
    try:
        guard_streams()
        if is_completing():
            from resolver.cli.completion import offer_help_as_it_is

            offer_help_as_it_is()
        result = build(names).main(arguments, prog_name="resolver", standalone_mode=False)
        check_stdout()
    except _Refused as refusal:
        return _fail(arguments, output, _usage(refusal, arguments))
    except ResolverError as error:
        return _fail(arguments, output, error)
    except (HungUp, BrokenPipeError, SystemExit):
        # Typer itself exits where a help page meets a closed pipe.
        return _hung_up()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except OSError as error:
        return _fail(arguments, output, _system(error))
    except Exception as defect:  # noqa: BLE001 - the last line of defence: a person gets one line
        starved = _starved(defect)
        if starved is not None:
            return _fail(arguments, output, starved)
        return _defect(output, defect)
    return result if isinstance(result, int) else 0


def main() -> None:
    """Run the command line of this process and end it."""
    signal.signal(signal.SIGTERM, _terminated)
    leave(run(sys.argv[1:]))


def _terminated(_number: int, _frame: FrameType | None) -> None:
    leave(TERMINATED)


def _usage(refusal: Any, arguments: list[str]) -> Usage:
    """Turn Typer's complaint into ours: one line, and the help to read."""
    message = str(refusal.format_message()).replace("\n", " ").rstrip(".")
    known = {name for _group, name, _module in COMMANDS}
    command = arguments[0] if arguments and arguments[0] in known else ""
    words = " ".join(word for word in ("resolver", command, "--help") if word)
    return Usage(message[:1].lower() + message[1:], f"see `{words}`")


def _system(error: OSError) -> ResolverError:
    """Put into words what the operating system refuses to the process as a whole."""
    reason = (error.strerror or str(error)).lower()
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return OutputFault(
            f"this process may open no more files: {reason}",
            "raise the limit (`ulimit -n`), or ask for less at once with `--jobs`",
        )
    return OutputFault(f"the system refuses: {reason}", "make room, then try again")


def _starved(defect: Exception) -> ResolverError | None:
    """Tell a process that may use no more memory or threads from a defect of ours.

    Native code that runs out of memory may also raise `SystemError`; it counts only where the
    process has a limit to run into.
    """
    if isinstance(defect, MemoryError) or (isinstance(defect, SystemError) and _is_limited()):
        return OutputFault(
            "this process may use no more memory",
            "raise the limit (`ulimit -v`), or ask for less at once with `--jobs 1`",
        )
    if isinstance(defect, RuntimeError) and "start new thread" in str(defect):
        return OutputFault(
            "this process may start no more threads",
            "raise the limit (`ulimit -u`), or ask for less at once with `--jobs 1`",
        )
    return None


def _is_limited() -> bool:
    """Whether this process has a limit of memory to run into."""
    if sys.platform == "win32":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _fail(arguments: list[str], output: Output, error: ResolverError) -> int:
    output.failed(error)
    form = _form(arguments)
    if form in {"json", "jsonl", "yaml"}:
        from resolver.render import render_values
        from resolver.render.to_dict import cleaned, to_dict

        try:
            output.answer(render_values(cleaned(to_dict(error), presentable), form))
        except (ResolverError, HungUp):
            return error.kind.status
    return error.kind.status


def _form(arguments: list[str]) -> str:
    """Find the output format of a command line that could not be read, or not be answered."""
    import os

    form = os.environ.get("RESOLVER_FORMAT", "")
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        if word == "--json":
            form = "json"
        elif word == "--format":
            form = next(words, "")
        elif word.startswith("--format="):
            form = word.removeprefix("--format=")
    return form


def _hung_up() -> int:
    """Nobody reads any more, as after `| head -1`: that is no failure."""
    import os

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _STDOUT)
    return 0


def _defect(output: Output, defect: Exception) -> int:
    import os

    if os.environ.get("RESOLVER_DEBUG"):
        raise defect
    text = f"this is a defect of resolver: {type(defect).__name__}: {defect}"
    output.failed(Usage(text, "please report it; RESOLVER_DEBUG=1 shows where it happened"))
    return DEFECT


__all__ = ["COMMANDS", "SHARED", "build", "main", "run"]
