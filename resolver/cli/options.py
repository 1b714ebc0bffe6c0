"""Options that several commands share, each written down once.

A command takes `common: Common`; the decorator `command` puts the shared options into its
signature, where Typer reads them. They are hidden in each command's help, which stays on one
screen, and shown by `resolver options`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Optional

import typer

from resolver.settings import Flags
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.cli.ci import CiOutput
    from resolver.render.ci.emit import Emitter


def is_completing() -> bool:
    """Whether a shell asks for completions: it is offered the shared options too.

    Source: click, "Shell Completion", of the variable.
    """
    return "_RESOLVER_COMPLETE" in os.environ


def offer_references(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a reference by the names in the store."""
    from resolver.cli import completion

    return completion.references(incomplete, ctx.params.get("store"))


def offer_platforms(incomplete: str) -> list[str]:
    """Complete a platform."""
    from resolver.cli import completion

    return completion.platforms(incomplete)


References = Annotated[
    list[str], typer.Argument(metavar="REF...", show_default=False, autocompletion=offer_references)
]
Reference = Annotated[
    str, typer.Argument(metavar="REF", show_default=False, autocompletion=offer_references)
]
Platforms = Annotated[
    Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
    typer.Option(
        "--platform",
        "-p",
        metavar="PLATFORM",
        help="os/arch[/variant][:os.version]; repeat it or use commas; `local`, `all`.",
        show_default=False,
        autocompletion=offer_platforms,
    ),
]
NoTrunc = Annotated[
    bool,
    typer.Option("--no-trunc", help="Show whole digests and values in tables.", show_default=False),
]
IndexOnly = Annotated[
    bool,
    typer.Option(
        "--index-only", help="Read the index alone, and no manifests.", show_default=False
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        envvar="RESOLVER_EXACT",
        show_envvar=False,
        help="Refuse every fallback to a platform that would only run.",
        show_default=False,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        envvar="RESOLVER_STRICT",
        show_envvar=False,
        help="Fail where index and image config disagree; reads both.",
        show_default=False,
    ),
]
ManyReferences = Annotated[
    Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
    typer.Argument(metavar="[REF]...", show_default=False, autocompletion=offer_references),
]
File = Annotated[
    Optional[str],  # noqa: UP045 - Typer reads this at run time
    typer.Option(
        "--file", "-f", metavar="FILE", help="References from FILE, one a line; `-` is stdin."
    ),
]
From = Annotated[
    Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
    typer.Option(
        "--from",
        metavar="PLACE",
        envvar="RESOLVER_FROM",
        show_envvar=False,
        help="Take what is held there: a store, a layout, an archive, containerd's folder.",
        show_default=False,
    ),
]
Foreign = Annotated[
    bool,
    typer.Option(
        "--foreign",
        envvar="RESOLVER_FOREIGN",
        show_envvar=False,
        help="Fetch layers that live elsewhere too, without credentials.",
        show_default=False,
    ),
]
NoAttestations = Annotated[
    bool,
    typer.Option(
        "--no-attestations",
        envvar="RESOLVER_NO_ATTESTATIONS",
        show_envvar=False,
        help="Leave out the SBOMs and provenance that the index lists.",
        show_default=False,
    ),
]
Referrers = Annotated[
    bool,
    typer.Option(
        "--referrers",
        envvar="RESOLVER_REFERRERS",
        show_envvar=False,
        help="Fetch what refers to the image too: signatures and other referrers.",
        show_default=False,
    ),
]
MaxDownload = Annotated[
    Optional[str],  # noqa: UP045 - Typer reads this at run time
    typer.Option(
        "--max-download",
        metavar="SIZE",
        envvar="RESOLVER_MAX_DOWNLOAD",
        show_envvar=False,
        help="Status 1 if more is to be fetched; `500MB`, `2GiB`.",
        show_default=False,
    ),
]

Locked = Annotated[
    bool,
    typer.Option(
        "--locked",
        envvar="RESOLVER_LOCKED",
        show_envvar=False,
        help="Take what the lock file says; ask nobody what REF means.",
        show_default=False,
    ),
]
LockFile = Annotated[
    Optional[str],  # noqa: UP045 - Typer reads this at run time
    typer.Option(
        "--lock-file",
        metavar="FILE",
        envvar="RESOLVER_LOCK_FILE",
        show_envvar=False,
        help="The lock file; resolver.lock by default.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True, eq=False)
class Common:
    """What the shared options said.

    Attributes:
        hand: who is told besides stdout; None where nobody is.

    """

    form: str
    quiet: bool
    verbose: int
    progress: bool
    flags: Flags
    hand: CiOutput | None = None


class Shared(NamedTuple):
    """One shared option: its place in `Common` or `Flags`, its names, its type and its help."""

    field: str
    names: tuple[str, ...]
    kind: Any
    default: object
    help: str
    metavar: str | None = None
    variable: str = ""


#: Every option that all commands take. To add one, add a row here and a field in `Flags`.
SHARED = (
    Shared(
        "form",
        ("--format",),
        str,
        "table",
        "Form of the answer, see below.",
        "FORMAT",
        "RESOLVER_FORMAT",
    ),
    Shared("json", ("--json",), bool, False, "Short for `--format json`."),
    Shared(
        "quiet", ("--quiet", "-q"), bool, False, "No warnings on stderr.", None, "RESOLVER_QUIET"
    ),
    Shared("verbose", ("--verbose", "-v"), int, 0, "Say what happens; twice: every request."),
    Shared(
        "no_progress",
        ("--no-progress",),
        bool,
        False,
        "Nothing about layers on stderr.",
        None,
        "RESOLVER_NO_PROGRESS",
    ),
    Shared(
        "store",
        ("--store",),
        str | None,
        None,
        "Folder of the local store [RESOLVER_STORE].",
        "DIR",
    ),
    Shared(
        "offline",
        ("--offline",),
        bool | None,
        None,
        "Ask nobody; answer from the store [RESOLVER_OFFLINE].",
    ),
    Shared(
        "no_fsync",
        ("--no-fsync",),
        bool | None,
        None,
        "Faster, not safe from power cuts [RESOLVER_NO_FSYNC].",
    ),
    Shared(
        "unsafe_no_lock",
        ("--unsafe-no-lock",),
        bool | None,
        None,
        "Nobody else uses it [RESOLVER_UNSAFE_NO_LOCK].",
    ),
    Shared(
        "shared_store",
        ("--shared-store",),
        bool | None,
        None,
        "Trust who else may write to it [RESOLVER_SHARED_STORE].",
    ),
    Shared(
        "jobs", ("--jobs",), str | None, None, "Questions at once, 1 to 256 [RESOLVER_JOBS].", "N"
    ),
    Shared(
        "plain_http",
        ("--plain-http",),
        bool | None,
        None,
        "Speak HTTP without TLS [RESOLVER_PLAIN_HTTP].",
    ),
    Shared(
        "ca_file",
        ("--ca-file",),
        str | None,
        None,
        "Trust these certificates too [RESOLVER_CA_FILE].",
        "FILE",
    ),
    Shared(
        "tls_skip_verify",
        ("--tls-skip-verify",),
        bool | None,
        None,
        "Do not check who answers [RESOLVER_TLS_SKIP_VERIFY].",
    ),
    Shared(
        "mirrors",
        ("--mirror",),
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        None,
        "Ask there first; `#tags`: tags too [RESOLVER_MIRROR].",
        "HOST=URL",
    ),
    Shared(
        "auth_file",
        ("--auth-file",),
        str | None,
        None,
        "Credentials from here only [RESOLVER_AUTH_FILE].",
        "FILE",
    ),
    Shared(
        "anonymous",
        ("--anonymous",),
        bool | None,
        None,
        "Use no credentials at all [RESOLVER_ANONYMOUS].",
    ),
    Shared("username", ("--username",), str | None, None, "User name [RESOLVER_USERNAME].", "NAME"),
    Shared(
        "password_stdin",
        ("--password-stdin",),
        bool,
        False,
        "Read the password from stdin [RESOLVER_PASSWORD].",
    ),
    Shared(
        "platforms_file",
        ("--platforms-file",),
        str | None,
        None,
        "More platform facts [RESOLVER_PLATFORMS].",
        "FILE",
    ),
    Shared(
        "emit",
        ("--emit",),
        list[str] | None,
        None,
        "Hand the answer to a CI system too.",
        "SYSTEM",
        "RESOLVER_EMIT",
    ),
    Shared(
        "report",
        ("--report",),
        list[str] | None,
        None,
        "Write it to a file too, as FORM=FILE.",
        "FORM=FILE",
        "RESOLVER_REPORT",
    ),
)

#: The last line of every command's help.
EPILOG = "Shared options (--format, --json, --store, --offline, ...): resolver options"


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Add the shared options to a command that takes `common: Common`.

    An option of the command's own hides a shared one of the same name; its variable still counts.
    """
    own = inspect.signature(function, eval_str=True)
    kept = [parameter for name, parameter in own.parameters.items() if name != "common"]
    taken = {name for parameter in kept for name in _names(parameter)}
    added = [_parameter(shared) for shared in SHARED if not taken & {*shared.names}]

    def run(**values: Any) -> None:
        shared = {each.field: values.pop(each.field, each.default) for each in SHARED}
        if not (shared["emit"] or shared["report"]):
            function(**values, common=_common(shared, None))
            return
        from resolver.cli.ci import CiOutput, handing_over
        from resolver.cli.output import Output

        emit, report = shared["emit"] or (), shared["report"] or ()
        hand = CiOutput.read(function.__name__.replace("_", "-"), emit, report, values)
        with handing_over(hand, Output(quiet=shared["quiet"])):
            function(**values, common=_common(shared, hand))

    run.__name__ = function.__name__
    run.__doc__ = function.__doc__
    run.__module__ = function.__module__
    run.__annotations__ = {each.name: each.annotation for each in (*kept, *added)}
    run.__signature__ = own.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]  # read by inspect
    return run


def _names(parameter: inspect.Parameter) -> tuple[str, ...]:
    """List the names of an option as they are typed."""
    found: list[object] = []
    for each in getattr(parameter.annotation, "__metadata__", ()):
        # Typer takes the first name for a default until it has seen that this is an annotation.
        found += [getattr(each, "default", None), *(getattr(each, "param_decls", None) or ())]
    return tuple(name for name in found if isinstance(name, str) and name.startswith("-"))


def _parameter(shared: Shared) -> inspect.Parameter:
    counted = shared.field == "verbose"
    option = typer.Option(
        *shared.names,
        metavar=shared.metavar,
        help=shared.help,
        hidden=not is_completing(),
        count=counted,
        envvar=shared.variable or None,
        show_default=False,
    )
    return inspect.Parameter(
        shared.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=shared.default,
        annotation=Annotated[shared.kind, option],
    )


def _common(values: dict[str, Any], hand: CiOutput | None) -> Common:
    password = None
    if values["password_stdin"]:
        from resolver.cli.inputs import read_password

        password = read_password()
    names = {field.name for field in fields(Flags)}
    given = {name: value for name, value in values.items() if name in names}
    flags = Flags(**given, password=password)
    form = "json" if values["json"] else values["form"]
    progress = not (values["quiet"] or values["no_progress"])
    return Common(form, values["quiet"], values["verbose"], progress, flags, hand)


def placed(row: Emitter) -> str:
    """Return how `--emit` names a CI system."""
    return f"{row.name}={row.takes}" if row.takes else row.name
