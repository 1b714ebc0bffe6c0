"""Options that several commands share, each defined once.

A command takes `common: Common`; the decorator `command` adds the shared options to its
signature, where Typer reads them. The help of a command lists them in a second section, and
`resolver options` lists them with formats, CI systems and reports. They may also stand before the
command: `resolver --json resolve ubuntu:24.04`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Optional

import typer
from typer.core import TyperCommand

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


#: Optional values, in the form that Typer reads at run time.
Text = Optional[str]  # noqa: UP045
Texts = Optional[list[str]]  # noqa: UP045


def option(
    names: str,
    help: str,  # noqa: A002 - as Typer calls it
    metavar: str | None = None,
    *,
    variable: str | None = None,
    complete: Callable[..., list[str]] | None = None,
    show_default: bool = False,
) -> Any:
    """Declare an option; `names` are separated by spaces, `variable` sets it in the environment."""
    return typer.Option(
        *names.split(),
        metavar=metavar,
        help=help,
        envvar=variable,
        show_envvar=False,
        show_default=show_default,
        autocompletion=complete,
    )


def argument(
    metavar: str,
    help: str,  # noqa: A002 - as Typer calls it
    complete: Callable[..., list[str]] | None = None,
) -> Any:
    """Declare an argument."""
    return typer.Argument(metavar=metavar, help=help, show_default=False, autocompletion=complete)


_REFERENCES = "Images: `ubuntu:24.04`, `oci:DIR`; see `resolver help references`."
References = Annotated[list[str], argument("REF...", _REFERENCES, offer_references)]
Reference = Annotated[
    str,
    argument(
        "REF", "Image: `ubuntu:24.04`, `oci:DIR`; see `resolver help references`.", offer_references
    ),
]
Platforms = Annotated[
    Texts,
    option(
        "--platform -p",
        "os/arch[/variant][:os.version]; repeat it or use commas; `local`, `all`, `linux/*`.",
        "PLATFORM",
        complete=offer_platforms,
    ),
]
#: Without patterns, for commands that record platforms.
NamedPlatforms = Annotated[
    Texts,
    option(
        "--platform -p",
        "os/arch[/variant][:os.version]; repeat it or use commas; `local`.",
        "PLATFORM",
        complete=offer_platforms,
    ),
]
NoTrunc = Annotated[bool, option("--no-trunc", "Show whole digests and values in tables.")]
IndexOnly = Annotated[bool, option("--index-only", "Read only the index, no manifests.")]
Exact = Annotated[
    bool,
    option(
        "--exact", "Refuse fallback to another platform that would run.", variable="RESOLVER_EXACT"
    ),
]
Strict = Annotated[
    bool,
    option(
        "--strict",
        "Fail if the index and the image config disagree; reads both.",
        variable="RESOLVER_STRICT",
    ),
]
ManyReferences = Annotated[Texts, argument("[REF]...", _REFERENCES, offer_references)]
File = Annotated[
    Text, option("--file -f", "Read references from FILE, one per line; `-` is stdin.", "FILE")
]
From = Annotated[
    Texts,
    option(
        "--from",
        "Copy content from a local store, layout, archive, engine or containerd root first.",
        "PLACE",
        variable="RESOLVER_FROM",
    ),
]
ToEngine = Annotated[
    Text,
    option("--to", "Engine to hand over to: docker, podman or containerd.", "ENGINE"),
]
Namespace = Annotated[Text, option("--namespace", "Set the containerd namespace.", "NAME")]
Load = Annotated[
    bool,
    option("--load", "Send an engine the whole tar, not only the layers that it lacks."),
]
Foreign = Annotated[
    bool,
    option(
        "--foreign", "Also fetch foreign layers, without credentials.", variable="RESOLVER_FOREIGN"
    ),
]
NoAttestations = Annotated[
    bool,
    option(
        "--no-attestations",
        "Skip the SBOMs and provenance that the index lists.",
        variable="RESOLVER_NO_ATTESTATIONS",
    ),
]
Referrers = Annotated[
    bool,
    option(
        "--referrers",
        "Also fetch signatures and other referrers of the image.",
        variable="RESOLVER_REFERRERS",
    ),
]
# Typer does not read the variables of these: `serve` refuses `--tier` without `--mirror`.
Tier = Annotated[
    Text,
    option("--tier", "Look in this bucket or folder first.", "URL"),
]
TierWrite = Annotated[
    Optional[bool],  # noqa: UP045 - Typer reads this at run time
    typer.Option(
        "--tier-write",
        help="Put what was fetched into the tier.",
        show_default=False,
    ),
]
MaxDownload = Annotated[
    Text,
    option(
        "--max-download",
        "Exit with status 1 if more must be fetched: `500MB`, `2GiB`.",
        "SIZE",
        variable="RESOLVER_MAX_DOWNLOAD",
    ),
]

Chunks = Annotated[
    str,
    option(
        "--chunks",
        "Reuse chunks of held layers: auto, always, never.",
        "WHEN",
        variable="RESOLVER_CHUNKS",
    ),
]
ChunkGap = Annotated[
    Text,
    option(
        "--chunk-gap",
        "Fetch reusable runs shorter than SIZE along.",
        "SIZE",
        variable="RESOLVER_CHUNK_GAP",
    ),
]

Locked = Annotated[
    bool,
    option(
        "--locked",
        "Resolve REF from the lock file, not from a registry.",
        variable="RESOLVER_LOCKED",
    ),
]
LockFile = Annotated[
    Text,
    option(
        "--lock-file",
        "Path of the lock file; by default resolver.lock.",
        "FILE",
        variable="RESOLVER_LOCK_FILE",
    ),
]


SigningKey = Annotated[Text, option("--key", "Verify signatures with this public key.", "FILE")]
Identity = Annotated[Text, option("--identity", "Verify signatures by this identity.", "ID")]
Issuer = Annotated[Text, option("--issuer", "Set the issuer of that identity.", "URL")]
TrustedRoot = Annotated[
    Text,
    option("--trusted-root", "Use this `trusted_root.json` of Sigstore.", "FILE"),
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
    fleet: Fleet | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """Values of the options of batch commands, as typed."""

    cluster: str | None
    shard: str | None
    results: str | None
    fresh: str | None


class Shared(NamedTuple):
    """One shared option: its field in `Common` or `Flags`, its names, its type and its help."""

    field: str
    names: str
    kind: Any
    help: str
    metavar: str | None = None
    variable: str | None = None
    default: object = None

    @property
    def text(self) -> str:
        """Return the help with the variable in brackets."""
        return f"{self.help.rstrip('.')} [{self.variable}]." if self.variable else self.help


#: Every option that all commands take. To add one, add a row here and a field in `Flags`.
SHARED = (
    Shared(
        "form",
        "--format",
        str,
        "Output format: table, json and more.",
        "FORMAT",
        variable="RESOLVER_FORMAT",
        default=DEFAULT_FORMAT,
    ),
    Shared("json", "--json", bool, "Short for `--format json`.", default=False),
    Shared("output", "--output -o", Text, "Write the answer to FILE.", "FILE"),
    Shared(
        "quiet",
        "--quiet -q",
        bool,
        "Print no warnings or notes.",
        variable="RESOLVER_QUIET",
        default=False,
    ),
    Shared("verbose", "--verbose -v", int, "Log what happens; twice: every request.", default=0),
    Shared(
        "colour",
        "--color",
        str,
        "Colours: auto, always, never; NO_COLOR, FORCE_COLOR.",
        "WHEN",
        default="auto",
    ),
    Shared(
        "no_progress",
        "--no-progress",
        bool,
        "Show no progress.",
        variable="RESOLVER_NO_PROGRESS",
        default=False,
    ),
    Shared("store", "--store", Text, "Folder of the local store [RESOLVER_STORE].", "DIR"),
    Shared(
        "offline", "--offline", bool | None, "Use only the store, no network [RESOLVER_OFFLINE]."
    ),
    Shared(
        "no_fsync",
        "--no-fsync",
        bool | None,
        "Faster, not safe from power cuts [RESOLVER_NO_FSYNC].",
    ),
    Shared(
        "unsafe_no_lock",
        "--unsafe-no-lock",
        bool | None,
        "Do not lock the store [RESOLVER_UNSAFE_NO_LOCK].",
    ),
    Shared(
        "shared_store",
        "--shared-store",
        bool | None,
        "Trust a shared store [RESOLVER_SHARED_STORE].",
    ),
    Shared("jobs", "--jobs", Text, "Concurrent requests, 1 to 256 [RESOLVER_JOBS].", "N"),
    Shared(
        "plain_http", "--plain-http", bool | None, "Use HTTP without TLS [RESOLVER_PLAIN_HTTP]."
    ),
    Shared(
        "ca_file", "--ca-file", Text, "Also trust these certificates [RESOLVER_CA_FILE].", "FILE"
    ),
    Shared(
        "tls_skip_verify",
        "--tls-skip-verify",
        bool | None,
        "Skip TLS verification [RESOLVER_TLS_SKIP_VERIFY].",
    ),
    Shared(
        "mirrors",
        "--mirror",
        Texts,
        "Try URL first; `#tags`: for tags too [RESOLVER_MIRROR].",
        "HOST=URL",
    ),
    Shared(
        "auth_file",
        "--auth-file",
        Text,
        "Read credentials only from FILE [RESOLVER_AUTH_FILE].",
        "FILE",
    ),
    Shared("anonymous", "--anonymous", bool | None, "Use no credentials [RESOLVER_ANONYMOUS]."),
    Shared("username", "--username -u", Text, "User name [RESOLVER_USERNAME].", "NAME"),
    Shared(
        "password_stdin",
        "--password-stdin",
        bool,
        "Read the password from stdin [RESOLVER_PASSWORD].",
        default=False,
    ),
    Shared(
        "platforms_file",
        "--platforms-file",
        Text,
        "Add platform facts [RESOLVER_PLATFORMS].",
        "FILE",
    ),
    Shared(
        "prefer",
        "--prefer",
        Text,
        "Prefer zstd or gzip layers [RESOLVER_PREFER].",
        "FORM",
    ),
    Shared(
        "emit",
        "--emit",
        Texts,
        "Also pass the answer to a CI system.",
        "SYSTEM",
        variable="RESOLVER_EMIT",
    ),
    Shared(
        "report",
        "--report",
        Texts,
        "Also write a report to FILE.",
        "FORM=FILE",
        variable="RESOLVER_REPORT",
    ),
)

#: Further options of the commands that answer many references.
FLEET = (
    Shared(
        "cluster",
        "--cluster",
        Text,
        "Dask scheduler to use, or `local:N`.",
        "ADDRESS",
        variable="RESOLVER_CLUSTER",
    ),
    Shared(
        "cluster_jobs",
        "--cluster-jobs",
        Text,
        "Requests at once per registry [RESOLVER_CLUSTER_JOBS].",
        "N",
    ),
    Shared(
        "shard",
        "--shard",
        Text,
        "Only part I of N: I/N, auto or auto/N.",
        "I/N",
        variable="RESOLVER_SHARD",
    ),
    Shared("results", "--results", Text, "Append answers; ask only for those not in it.", "FILE"),
    Shared("fresh", "--fresh", Text, "Ask again after this time: 12h, 7d; by default 1d.", "AGE"),
)

#: The last line of every command's help.
EPILOG = "Formats, CI systems and reports: resolver options"
#: Fields of the shared options.
_SHARED_FIELDS = frozenset(row.field for row in SHARED)


class HelpCommand(TyperCommand):
    """A command whose help lists its own options and the shared ones in sections of their own."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the pieces of the usage line; Typer writes a required argument as `{REF}`."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options and the shared options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            title = "Shared options" if parameter.name in _SHARED_FIELDS else "Options"
            if parameter.param_type_name == "argument":
                title = "Arguments"
            sections.setdefault(title, []).append(record)
        for title in sorted(sections):
            with formatter.section(title):
                formatter.write_dl(sections[title])


def arrange(arguments: list[str]) -> list[str]:
    """Move shared options from before the command to behind it.

    They are moved in their long form, since a command may have its own short option.
    """
    shared = {name: row for row in SHARED for name in row.names.split()}
    moved: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        name, equals, value = rest[0].partition("=")
        if not name.startswith("--"):
            name, equals, value = rest[0][:2], "", rest[0][2:]
        row = shared.get(name)
        if row is None:
            return rest
        moved.append(row.names.split()[0])
        del rest[0]
        if row.metavar is None:
            # A switch: `-qv` continues with the next one.
            rest[:0] = [f"-{value}"] if value else []
        elif value or equals:
            moved.append(value)
        elif rest:
            moved.append(rest.pop(0))
    if moved and not rest:
        raise Usage("no command given", "see `resolver --help`")
    return [*rest[:1], *moved, *rest[1:]]


def batch_command(function: Callable[..., None]) -> Callable[..., None]:
    """Add the shared options, and those of `FLEET`; see `command`."""
    return command(function, (*SHARED, *FLEET))


def cluster_command(function: Callable[..., None]) -> Callable[..., None]:
    """Add the shared options, and those of `FLEET` that concern a cluster; see `command`."""
    return command(function, (*SHARED, *(row for row in FLEET if row.field.startswith("cluster"))))


def command(
    function: Callable[..., None], rows: tuple[Shared, ...] = SHARED
) -> Callable[..., None]:
    """Add the shared options to a command that takes `common: Common`.

    A command's own option hides a shared one of the same name; the variable still applies.
    """
    own = inspect.signature(function, eval_str=True)
    kept = [parameter for name, parameter in own.parameters.items() if name != "common"]
    own_names = {name for parameter in kept for name in _names(parameter)}
    added = [_parameter(shared) for shared in rows if not own_names & {*shared.names.split()}]

    def run(**values: Any) -> None:
        shared = {row.field: values.pop(row.field, row.default) for row in rows}
        from resolver.cli.output import choose_colour

        choose_colour(shared["colour"])
        if shared["output"] not in {None, "-"}:
            from resolver.cli.output import answer_to

            answer_to(shared["output"])
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
    for declared in getattr(parameter.annotation, "__metadata__", ()):
        # Typer stores the first name as the default until it processes the annotation.
        found += [
            getattr(declared, "default", None),
            *(getattr(declared, "param_decls", None) or ()),
        ]
    return tuple(name for name in found if isinstance(name, str) and name.startswith("-"))


def _parameter(shared: Shared) -> inspect.Parameter:
    counted = shared.field == "verbose"
    option_info = typer.Option(
        *shared.names.split(),
        metavar=shared.metavar,
        help=shared.text,
        count=counted,
        envvar=shared.variable,
        show_envvar=False,
        show_default=False,
    )
    return inspect.Parameter(
        shared.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=shared.default,
        annotation=Annotated[shared.kind, option_info],
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
    own = {field.name: values.get(field.name) for field in fields(Fleet)}
    fleet = Fleet(**own) if any(value is not None for value in own.values()) else None
    return Common(form, values["quiet"], values["verbose"], progress, flags, recorder, fleet)


def tiered(common: Common, tier: str | None, write: bool | None = None) -> Common:
    """Add the tier that a command was given."""
    if tier is not None:
        from resolver.sources.tier import check_url

        check_url(tier)
    return replace(common, flags=replace(common.flags, tier=tier, tier_write=write))


def emitter_usage(row: Emitter) -> str:
    """Return how an emitter is named on the command line: `env=FILE`."""
    return f"{row.name}={row.takes}" if row.takes else row.name
