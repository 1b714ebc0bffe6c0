"""The command line: register the commands, turn failures into messages and exit statuses."""

from __future__ import annotations

import errno
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from resolver.cli.options import EPILOG, HelpCommand, arrange, is_completing
from resolver.cli.output import (
    Output,
    ReaderGone,
    exit_now,
    finish_answer,
    guard_streams,
    presentable,
    remember_words,
)
from resolver.errors import OutputFault, ResolverError, Usage
from resolver.render import RENDERERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

#: Interrupted, as shells count it: 128 and the signal's number.
INTERRUPTED = 130
TERMINATED = 143
#: A bug in resolver. Source: sysexits.h, EX_SOFTWARE.
DEFECT = 70
_STDOUT = 1

#: Every command: group, name, the module of `resolver.cli` that holds a function of that name, and
#: the first line of its docstring, so that the front page loads no module. To add one, write the
#: module and add a row.
COMMANDS = (
    ("Ask", "resolve", "resolve", "Resolve an image to a manifest digest."),
    ("Ask", "platforms", "inspect", "List the platforms of images."),
    ("Ask", "inspect", "inspect", "Show indexes or images."),
    ("Ask", "attestations", "attestations", "Show signatures, SBOMs and provenance by platform."),
    ("Ask", "tags", "tags", "List the tags of a repository."),
    ("Ask", "search", "search", "Search Docker Hub or another registry."),
    ("Ask", "repositories", "search", "List the repositories of a registry."),
    ("Ask", "quota", "search", "Show how many pulls are left."),
    ("Compare", "compare", "compare", "Compare the platforms of an image, or two images."),
    ("Pull", "plan", "pull", "Show what a pull would fetch."),
    ("Pull", "pull", "pull", "Pull images into the store."),
    ("Pull", "export", "export", "Export images from the store."),
    ("Push", "copy", "copy", "Copy an image to registries or layouts."),
    ("Push", "index", "copy", "Make an index of images, or edit one."),
    ("Store", "ls", "ls", "List the images in the store."),
    ("Store", "rm", "rm", "Remove images from the store."),
    ("Store", "gc", "gc", "Delete content that no pulled image needs."),
    ("Store", "verify", "verify", "Verify the content of the store."),
    ("Store", "du", "verify", "Show the disk usage of each image."),
    ("CI", "check", "check", "Check that an image meets requirements."),
    ("CI", "lint", "lint", "Find problems in multi-platform images."),
    ("CI", "needs", "needs", "Show what the programs of an image need of the machine."),
    ("CI", "matrix", "matrix", "Print a CI job matrix for the platforms of an image."),
    ("CI", "pin", "pin", "Write digests into files that name images."),
    ("CI", "lock", "lock", "Record the digests of images in a lock file."),
    ("CI", "merge", "merge", "Join the results of several runs into one answer."),
    ("Run", "serve", "serve", "Serve the store or an OCI layout as a registry."),
    ("Run", "mirror-config", "serve", "Print a mirror configuration for another tool."),
    ("Run", "demo", "demo", "Show all commands on sample images."),
    ("Run", "login", "login", "Log in to a registry, by default Docker Hub."),
    ("Run", "logout", "login", "Log out of a registry, by default Docker Hub."),
    ("Run", "doctor", "doctor", "Check the configuration of this machine."),
    ("Help", "help", "help", "Show help on a topic or a command, or list the topics."),
    ("Help", "options", "help", "List the options that all commands accept."),
    ("Help", "completion", "completion", "Print the completion script for a shell."),
    ("Help", "version", "help", "Print the version."),
)

#: `ClickException`; Typer vendors it since 0.26, before that it is in click.
_ClickError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


class GroupedCommands(TyperGroup):
    """A help page that lists commands in groups, without rich."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, then one section per group."""
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each group under its heading, in the order of `COMMANDS`."""
        del ctx
        for group in dict.fromkeys(row[0] for row in COMMANDS):
            with formatter.section(group):
                formatter.write_dl([row[1::2] for row in COMMANDS if row[0] == group])


def _version(request: bool) -> None:
    if request:
        from resolver._version import __version__
        from resolver.cli.output import Output

        Output().answer(f"resolver {__version__}\n")
        raise typer.Exit


def build(names: Sequence[str]) -> Any:
    """Build the application with the named commands; loading one is enough to run it."""
    app = typer.Typer(
        cls=GroupedCommands,
        name="resolver",
        help="Resolve, inspect, compare and pull multi-platform container images.",
        epilog="Help for a command: resolver COMMAND --help\n\n"
        "Help on a topic: resolver help TOPIC",
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
                "--version",
                "-V",
                callback=_version,
                is_eager=True,
                help="Print the version and exit.",
            ),
        ] = False,
    ) -> None:
        del version

    for _group, name, module, _summary in COMMANDS:
        if name in names:
            function = getattr(import_module(f"resolver.cli.{module}"), name.replace("-", "_"))
            app.command(name, cls=HelpCommand, epilog=EPILOG)(function)
    return typer.main.get_command(app)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status; no exception escapes."""
    try:
        return _run(arguments)
    finally:
        finish_answer(keep=False)


def _needed(arguments: list[str]) -> list[str]:
    """Return the commands that a command line needs: one, or all where only Typer knows."""
    known = [name for _group, name, _module, _summary in COMMANDS]
    if is_completing():
        return known
    if all(word.startswith("-") for word in arguments):
        # The front page, the version, or a mistake in an option.
        return []
    return arguments[:1] if arguments[0] in known else known


def _run(arguments: list[str]) -> int:  # noqa: PLR0911 - one return per way to end
    output = Output()
    try:
        arguments = arrange(arguments) or ["--help"]
    except Usage as error:
        return _fail(arguments, output, error)
    remember_words(arguments)
    try:
        guard_streams()
        # At TAB, and for `completion`, `--install-completion` and `--show-completion`.
        if is_completing() or arguments[0].endswith("completion"):
            from resolver.cli.completion import adapt_typer

            adapt_typer()
        result = build(_needed(arguments)).main(
            arguments, prog_name="resolver", standalone_mode=False
        )
        finish_answer(keep=True)
    except _ClickError as refusal:
        return _fail(arguments, output, _usage(refusal, arguments))
    except ResolverError as error:
        return _fail(arguments, output, error)
    except (ReaderGone, BrokenPipeError, SystemExit):
        # Typer exits by itself when the reader of a help page closes the pipe.
        # Succeed when the reader closed the pipe, as `| head -1` does.
        import os

        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, _STDOUT)
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except OSError as error:
        return _fail(arguments, output, _system(error))
    except Exception as defect:  # noqa: BLE001 - the last resort: report any defect in one line
        exhausted = _resource_error(defect)
        if exhausted is not None:
            return _fail(arguments, output, exhausted)
        return _defect(output, defect)
    return result if isinstance(result, int) else 0


def main() -> None:
    """Run the command line of this process, then exit."""
    signal.signal(signal.SIGTERM, _terminated)
    exit_now(run(sys.argv[1:]))


def _terminated(_number: int, _frame: FrameType | None) -> None:
    exit_now(TERMINATED)


def _usage(refusal: Any, arguments: list[str]) -> Usage:
    """Turn a usage error of Typer into ours: one line, and which help to read."""
    message = " ".join(refusal.format_message().split()).rstrip(".")
    known = {name for _group, name, _module, _summary in COMMANDS}
    command = arguments[0] if arguments and arguments[0] in known else ""
    words = " ".join(word for word in ("resolver", command, "--help") if word)
    return Usage(message[:1].lower() + message[1:], f"see `{words}`")


def _system(error: OSError) -> ResolverError:
    """Turn an operating system error that concerns the whole process into ours."""
    reason = (error.strerror or str(error)).lower()
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return OutputFault(
            f"this process has reached its limit of open files: {reason}",
            "raise the limit (`ulimit -n`), or reduce concurrency with `--jobs`",
        )
    return OutputFault(
        f"the operating system reported an error: {reason}", "free some space, then try again"
    )


def _resource_error(defect: Exception) -> ResolverError | None:
    """Return an error if the process ran out of memory or threads; None for a defect.

    Native code that runs out of memory may also raise `SystemError`; it counts only if the
    memory of the process is limited.
    """
    is_short = "can't allocate lock" in str(defect) or isinstance(defect, MemoryError)
    if is_short or (isinstance(defect, SystemError) and _is_limited()):
        return OutputFault(
            "this process has reached its memory limit",
            "raise the limit (`ulimit -v`), or reduce concurrency with `--jobs 1`",
        )
    if isinstance(defect, RuntimeError) and "start new thread" in str(defect):
        return OutputFault(
            "this process has reached its limit of threads",
            "raise the limit (`ulimit -u`), or reduce concurrency with `--jobs 1`",
        )
    return None


def _is_limited() -> bool:
    if sys.platform == "win32":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _fail(arguments: list[str], output: Output, error: ResolverError) -> int:
    output.failed(error)
    form = _form(arguments)
    row = RENDERERS.get(form)
    with suppress(ResolverError, ReaderGone):
        if row is not None and row.draws == "plain":
            from resolver.render import render_values
            from resolver.render.to_dict import cleaned, to_dict

            output.answer(render_values(cleaned(to_dict(error), presentable), form))
        finish_answer()
    return error.kind.status


def _form(arguments: list[str]) -> str:
    """Find the output format in a command line that failed, perhaps before it was parsed."""
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


def _defect(output: Output, defect: Exception) -> int:
    import os

    if os.environ.get("RESOLVER_DEBUG"):
        raise defect
    text = f"this is a bug in resolver: {type(defect).__name__}: {defect}"
    output.failed(Usage(text, "please report it with the traceback that RESOLVER_DEBUG=1 shows"))
    return DEFECT


__all__ = ["COMMANDS", "build", "main", "run"]
