"""`resolver help`, `options` and `version`: help topics, from files inside the package."""

from importlib.resources import files
from typing import Annotated

from resolver.cli.options import Text, argument
from resolver.cli.output import Output
from resolver.errors import Usage
from resolver.render import RENDERERS

#: Every topic, in the order listed; the first line of a page is its summary. To add one,
#: write `resolver/topics/<name>.txt` and add a row.
TOPICS = ("references", "platforms", "store", "configuration", "ci", "exit-status")


def offer_topics(incomplete: str) -> list[str]:
    """Complete the name of a topic or of a command."""
    from resolver.cli.app import COMMANDS

    names = (*TOPICS, *(name for _group, name, _module, _summary in COMMANDS))
    return [name for name in names if name.startswith(incomplete)]


def help(  # noqa: A001 - the name of the command
    topic: Annotated[Text, argument("[TOPIC]", "A topic or a command.", offer_topics)] = None,
) -> None:
    """Show help on a topic or a command, or list the topics.

    \b
      resolver help
      resolver help platforms
      resolver help resolve
    """
    from resolver.cli.app import COMMANDS, build

    names = {name for _group, name, _module, _summary in COMMANDS}
    if topic is None:
        Output().answer(_list())
    elif topic in TOPICS:
        Output().answer(read(topic))
    elif topic in names:
        build([topic]).main([topic, "--help"], prog_name="resolver", standalone_mode=False)
    else:
        raise _unknown(topic, names)


def read(topic: str) -> str:
    """Read the page of a topic."""
    # Also where the package is in a zip file.
    return files("resolver").joinpath("topics", f"{topic}.txt").read_text("utf-8")


def _list() -> str:
    width = max(map(len, TOPICS))
    rows = [f"  {name:<{width}}  {read(name).partition(chr(10))[0]}" for name in TOPICS]
    lines = ["Topics; read one with `resolver help TOPIC`:", "", *rows, ""]
    lines.append("Help for a command: resolver COMMAND --help, or resolver help COMMAND")
    return "\n".join(lines) + "\n"


def _unknown(topic: str, names: set[str]) -> Exception:
    from resolver.core.parse.document import similar

    meant = similar(topic, (*TOPICS, *sorted(names)))
    hint = (
        f"did you mean `resolver help {meant}`?" if meant else f"choose one of {', '.join(TOPICS)}"
    )
    return Usage(f"unknown topic `{topic}`", hint)


def version() -> None:
    """Print the version."""
    from resolver._version import __version__

    Output().answer(f"resolver {__version__}\n")


def options() -> None:
    """List the options that all commands accept."""
    from textwrap import wrap

    from resolver.cli.options import FLEET, SHARED, emitter_usage
    from resolver.render.ci.emit import EMITTERS, REPORTS

    rows = []
    for shared in (*SHARED, *FLEET):
        names = shared.names.replace(" ", ", ")
        text = f"{names} {shared.metavar}" if shared.metavar else names
        rows.append((text, shared.text))
    width = max(len(name) for name, _help in rows)
    lines = ["Every command accepts these options; the variables in brackets set the same.", ""]
    described = [f"  {name:<{width}}  {text}" for name, text in rows]
    lines += described[: len(SHARED)]
    lines += ["", "Also resolve, check, lint and lock --check, for many references:", ""]
    lines += described[len(SHARED) :]
    lines += [
        "",
        f"Systems: {', '.join(map(emitter_usage, EMITTERS.values()))}, auto.",
        f"Reports: {', '.join(REPORTS)}. Both options can be repeated.",
        *wrap(f"Formats: {', '.join(RENDERERS)}; the default is table.", 80),
        "Also read: DOCKER_DEFAULT_PLATFORM, DOCKER_CONFIG, DOCKER_AUTH_CONFIG,",
        "REGISTRY_AUTH_FILE, SSL_CERT_FILE, HTTPS_PROXY, HTTP_PROXY, NO_PROXY.",
        "Mirrors come from --mirror, else config.yaml (RESOLVER_CONFIG), else",
        "containerd's certs.d (RESOLVER_CERTS_D), else CONTAINERS_REGISTRIES_CONF.",
    ]
    Output().answer("\n".join(lines) + "\n")
