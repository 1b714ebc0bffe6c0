"""`resolver help`: pages to read, from files inside the package."""

from pathlib import Path
from typing import Annotated, Optional

import typer

#: Every page, in the order they are listed; its first line says in a few words what it is about.
#: To add one, write `resolver/topics/<name>.txt` and add a row.
TOPICS = ("references", "platforms", "store", "configuration", "ci", "exit-status")
_FOLDER = Path(__file__).parent.parent / "topics"


def offer_topics(incomplete: str) -> list[str]:
    """Complete the name of a page, or of a command."""
    from resolver.cli.app import COMMANDS

    names = (*TOPICS, *(name for _group, name, _module in COMMANDS))
    return [name for name in names if name.startswith(incomplete)]


def help(  # noqa: A001 - the name of the command
    topic: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(metavar="[TOPIC]", show_default=False, autocompletion=offer_topics),
    ] = None,
) -> None:
    """Explain a TOPIC, or a command; without one, list the topics.

    \b
      resolver help
      resolver help platforms
      resolver help resolve
    """
    from resolver.cli.app import COMMANDS, build
    from resolver.cli.output import Output

    names = {name for _group, name, _module in COMMANDS}
    if topic is None:
        Output().answer(_list())
    elif topic in TOPICS:
        Output().answer(read(topic))
    elif topic in names:
        build([topic]).main([topic, "--help"], prog_name="resolver", standalone_mode=False)
    else:
        raise _unknown(topic, names)


def read(topic: str) -> str:
    """Read a page."""
    return (_FOLDER / f"{topic}.txt").read_text("utf-8")


def _list() -> str:
    width = max(map(len, TOPICS))
    rows = [f"  {name:<{width}}  {read(name).partition(chr(10))[0]}" for name in TOPICS]
    lines = ["Topics, each a page to read with `resolver help TOPIC`:", "", *rows, ""]
    lines.append("A command explains itself: resolver COMMAND --help, or resolver help COMMAND")
    return "\n".join(lines) + "\n"


def _unknown(topic: str, names: set[str]) -> Exception:
    from resolver.core.parse.document import similar
    from resolver.errors import Usage

    meant = similar(topic, (*TOPICS, *sorted(names)))
    hint = (
        f"did you mean `resolver help {meant}`?" if meant else f"choose one of {', '.join(TOPICS)}"
    )
    return Usage(f"there is no topic `{topic}`", hint)
