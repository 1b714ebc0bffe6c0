"""Options that several commands share, each defined once.

A command takes `common: Common`; the decorator `command` adds the shared options to its
signature, where Typer reads them. They are hidden in the help of each command, which stays on
one screen, and shown by `resolver options`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Optional

import typer

from resolver.errors import Usage
from resolver.render import DEFAULT_FORMAT
from resolver.settings import Flags
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.cli.ci import CiOutput
    from resolver.core.results.attestations import TrustOptions
    from resolver.render.ci.emit import Emitter


def is_completing() -> bool:
    """Return whether a shell asks for completions, which include the shared options.

    Source: click, "Shell Completion" (the variable).
    """
    return "_RESOLVER_COMPLETE" in os.environ


def offer_references(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a reference from the names in the store."""
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
    typer.Option("--index-only", help="Read only the index, no manifests.", show_default=False),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        envvar="RESOLVER_EXACT",
        show_envvar=False,
        help="Refuse fallback to another platform that would run.",
        show_default=False,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        envvar="RESOLVER_STRICT",
        show_envvar=False,
        help="Fail if the index and the image config disagree; reads both.",
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
        "--file",
        "-f",
        metavar="FILE",
        help="Read references from FILE, one per line; `-` is stdin.",
    ),
]
From = Annotated[
    Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
    typer.Option(
        "--from",
        metavar="PLACE",
        envvar="RESOLVER_FROM",
        show_envvar=False,
        help="Copy content from a local store, layout, archive or containerd root first.",
        show_default=False,
    ),
]
Foreign = Annotated[
    bool,
    typer.Option(
        "--foreign",
        envvar="RESOLVER_FOREIGN",
        show_envvar=False,
        help="Also fetch foreign layers, without credentials.",
        show_default=False,
    ),
]
NoAttestations = Annotated[
    bool,
    typer.Option(
        "--no-attestations",
        envvar="RESOLVER_NO_ATTESTATIONS",
        show_envvar=False,
        help="Skip the SBOMs and provenance that the index lists.",
        show_default=False,
    ),
]
Referrers = Annotated[
    bool,
    typer.Option(
        "--referrers",
        envvar="RESOLVER_REFERRERS",
        show_envvar=False,
        help="Also fetch signatures and other referrers of the image.",
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
        help="Exit with status 1 if more must be fetched: `500MB`, `2GiB`.",
        show_default=False,
    ),
]

Locked = Annotated[
    bool,
    typer.Option(
        "--locked",
        envvar="RESOLVER_LOCKED",
        show_envvar=False,
        help="Resolve REF from the lock file, not from a registry.",
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
        help="Path of the lock file; by default resolver.lock.",
        show_default=False,
    ),
]


SigningKey = Annotated[
    Optional[str],  # noqa: UP045 - Typer reads this at run time
    typer.Option("--key", metavar="FILE", help="Verify signatures with this public key (PEM)."),
]
Identity = Annotated[
    Optional[str],  # noqa: UP045 - as above
    typer.Option(
        "--identity", metavar="ID", help="Verify signatures of this identity; needs --issuer."
    ),
]
Issuer = Annotated[
    Optional[str],  # noqa: UP045 - as above
    typer.Option("--issuer", metavar="URL", help="Set the issuer of the identity."),
]
TrustedRoot = Annotated[
    Optional[str],  # noqa: UP045 - as above
    typer.Option(
        "--trusted-root",
        metavar="FILE",
        help="Trust a private Sigstore deployment: its trusted_root.json.",
    ),
]


def trust(
    key: str | None, identity: str | None, issuer: str | None, trusted_root: str | None
) -> TrustOptions:
    """Combine the options about signatures; an empty value is refused, not ignored."""
    from resolver.core.results.attestations import TrustOptions

    given = {"key": key, "identity": identity, "issuer": issuer, "trusted-root": trusted_root}
    for name, value in given.items():
        if value is not None and not value.strip():
            raise Usage(f"`--{name}` is empty", "give a value, or leave the option out")
    return TrustOptions(key or "", identity or "", issuer or "", trusted_root or "")


@dataclass(frozen=True, slots=True, eq=False)
class Common:
    """Values of the shared options.

    Attributes:
        recorder: collects answers for `--emit` and `--report`; None without them.
    """

    form: str
    quiet: bool
    verbose: int
    progress: bool
    flags: Flags
    recorder: CiOutput | None = None


class Shared(NamedTuple):
    """One shared option: its field in `Common` or `Flags`, its names, its type and its help."""

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
        DEFAULT_FORMAT,
        "Output format, see below.",
        "FORMAT",
        "RESOLVER_FORMAT",
    ),
    Shared("json", ("--json",), bool, False, "Short for `--format json`."),
    Shared(
        "quiet",
        ("--quiet", "-q"),
        bool,
        False,
        "Print no warnings or notes.",
        None,
        "RESOLVER_QUIET",
    ),
    Shared("verbose", ("--verbose", "-v"), int, 0, "Log what happens; twice: every request."),
    Shared(
        "no_progress",
        ("--no-progress",),
        bool,
        False,
        "Show no progress.",
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
        "Use only the store, no network [RESOLVER_OFFLINE].",
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
        "Do not lock the store [RESOLVER_UNSAFE_NO_LOCK].",
    ),
    Shared(
        "shared_store",
        ("--shared-store",),
        bool | None,
        None,
        "Trust a shared store [RESOLVER_SHARED_STORE].",
    ),
    Shared(
        "jobs", ("--jobs",), str | None, None, "Concurrent requests, 1 to 256 [RESOLVER_JOBS].", "N"
    ),
    Shared(
        "plain_http",
        ("--plain-http",),
        bool | None,
        None,
        "Use HTTP without TLS [RESOLVER_PLAIN_HTTP].",
    ),
    Shared(
        "ca_file",
        ("--ca-file",),
        str | None,
        None,
        "Also trust these certificates [RESOLVER_CA_FILE].",
        "FILE",
    ),
    Shared(
        "tls_skip_verify",
        ("--tls-skip-verify",),
        bool | None,
        None,
        "Skip TLS verification [RESOLVER_TLS_SKIP_VERIFY].",
    ),
    Shared(
        "mirrors",
        ("--mirror",),
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        None,
        "Try URL first; `#tags`: for tags too [RESOLVER_MIRROR].",
        "HOST=URL",
    ),
    Shared(
        "auth_file",
        ("--auth-file",),
        str | None,
        None,
        "Read credentials only from FILE [RESOLVER_AUTH_FILE].",
        "FILE",
    ),
    Shared(
        "anonymous",
        ("--anonymous",),
        bool | None,
        None,
        "Use no credentials [RESOLVER_ANONYMOUS].",
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
        "Add platform facts [RESOLVER_PLATFORMS].",
        "FILE",
    ),
    Shared(
        "emit",
        ("--emit",),
        list[str] | None,
        None,
        "Also pass the answer to a CI system.",
        "SYSTEM",
        "RESOLVER_EMIT",
    ),
    Shared(
        "report",
        ("--report",),
        list[str] | None,
        None,
        "Also write a report to FILE.",
        "FORM=FILE",
        "RESOLVER_REPORT",
    ),
)

#: The last line of every command's help.
EPILOG = "Shared options (--format, --json, --store, --offline, ...): resolver options"


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Add the shared options to a command that takes `common: Common`.

    A command's own option hides a shared one of the same name; the variable still applies.
    """
    own = inspect.signature(function, eval_str=True)
    kept = [parameter for name, parameter in own.parameters.items() if name != "common"]
    own_names = {name for parameter in kept for name in _names(parameter)}
    added = [_parameter(shared) for shared in SHARED if not own_names & {*shared.names}]

    def run(**values: Any) -> None:
        shared = {row.field: values.pop(row.field, row.default) for row in SHARED}
        if not (shared["emit"] or shared["report"]):
            function(**values, common=_common(shared, None))
            return
        from resolver.cli.ci import CiOutput, deliver_on_exit
        from resolver.cli.output import Output

        emit, report = shared["emit"] or (), shared["report"] or ()
        recorder = CiOutput.read(function.__name__.replace("_", "-"), emit, report, values)
        with deliver_on_exit(recorder, Output(quiet=shared["quiet"])):
            function(**values, common=_common(shared, recorder))

    run.__name__ = function.__name__
    run.__doc__ = function.__doc__
    run.__module__ = function.__module__
    run.__annotations__ = {option.name: option.annotation for option in (*kept, *added)}
    run.__signature__ = own.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]  # read by inspect
    return run


def _names(parameter: inspect.Parameter) -> tuple[str, ...]:
    """List the names of an option as typed on the command line."""
    found: list[object] = []
    for option in getattr(parameter.annotation, "__metadata__", ()):
        # Typer stores the first name as the default until it processes the annotation.
        found += [getattr(option, "default", None), *(getattr(option, "param_decls", None) or ())]
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


def _common(values: dict[str, Any], recorder: CiOutput | None) -> Common:
    password = None
    if values["password_stdin"]:
        from resolver.cli.inputs import read_password

        password = read_password()
    names = {field.name for field in fields(Flags)}
    given = {name: value for name, value in values.items() if name in names}
    flags = Flags(**given, password=password)
    form = "json" if values["json"] else values["form"]
    progress = not (values["quiet"] or values["no_progress"])
    return Common(form, values["quiet"], values["verbose"], progress, flags, recorder)


def emitter_usage(row: Emitter) -> str:
    """Return how an emitter is named on the command line: `env=FILE`."""
    return f"{row.name}={row.takes}" if row.takes else row.name
