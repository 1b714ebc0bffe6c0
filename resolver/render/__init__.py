"""Output formats: answers as reports (text, markdown, HTML) and as values (JSON, YAML).

To add a format, write `render/<format>.py` and add a row to `RENDERERS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from resolver.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.render.to_dict import Plain


class Renderer(NamedTuple):
    """One output format.

    Attributes:
        place: `module:function`, imported when this format is used.
        draws: `report` (facts and tables), `plain` (values), `word` (a digest or a reference) or
            `answer` (the answer itself).
        fits_width: tables are narrowed to the terminal; other formats show all values in full.
        collects: several answers become one document.
        is_lines: several answers are a document each, one per line.
    """

    name: str
    place: str
    draws: str
    fits_width: bool = False
    collects: bool = False
    is_lines: bool = False


class Page(NamedTuple):
    """What text is written to.

    Attributes:
        width: columns of the terminal; None for a pipe or a file, where nothing is shortened.
        colour: whether platforms, grades, states and severities have colours.
        command, date: of the run, for a document that is kept; empty if unknown.
    """

    width: int | None = None
    colour: bool = False
    command: str = ""
    date: str = ""


#: A pipe or a file.
PIPE = Page()

#: The format without `--format`.
DEFAULT_FORMAT = "table"

#: Every format, by its name on the command line.
RENDERERS = {
    row.name: row
    for row in (
        Renderer(DEFAULT_FORMAT, "resolver.render.text:text", "report", fits_width=True),
        Renderer("markdown", "resolver.render.markdown:markdown", "report"),
        Renderer("html", "resolver.render.html.compare:html", "answer"),
        Renderer("json", "resolver.render.json:json", "plain", collects=True),
        Renderer("jsonl", "resolver.render.json:jsonl", "plain", is_lines=True),
        Renderer("yaml", "resolver.render.json:yaml", "plain", collects=True),
        Renderer("digest", "resolver.render.single_values:digest", "word"),
        Renderer("ref", "resolver.render.single_values:ref", "word"),
    )
}


def renderer(name: str) -> Renderer:
    """Return the row of a format."""
    row = RENDERERS.get(name)
    if row is None:
        raise Usage(f"unknown format `{name}`", f"choose one of {', '.join(RENDERERS)}")
    return row


def prepare(name: str) -> None:
    """Import the modules of a format before any work.

    Later, a process near its limit of open files might fail to import them.
    """
    row = renderer(name)
    _load(row)
    if row.draws in {"report", "plain"}:
        import_module(
            "resolver.render.report" if row.draws == "report" else "resolver.render.to_dict"
        )


def render(
    answer: object,
    form: str,
    *,
    explain: bool = False,
    full: bool = False,
    page: Page = PIPE,
    clean: Callable[[str], str] = str,
) -> str:
    """Render an answer in a format; the text ends with a line break.

    `full` shows whole digests and values. `clean` redacts the text of errors, warnings and tools.
    """
    return "".join(render_chunks(answer, form, explain=explain, full=full, page=page, clean=clean))


def render_chunks(
    answer: object,
    form: str,
    *,
    explain: bool = False,
    full: bool = False,
    page: Page = PIPE,
    clean: Callable[[str], str] = str,
) -> Iterator[str]:
    """Render like `render`, but yield a long document in chunks to save memory."""
    row = renderer(form)
    if row.draws == "plain":
        from resolver.render.json import chunks  # noqa: PLC0415 - for these formats alone
        from resolver.render.to_dict import cleaned, to_dict  # noqa: PLC0415

        yield from chunks(cleaned(to_dict(answer, explain=explain), clean), form)
    elif row.draws == "word":
        yield _load(row)(answer)
    elif row.draws == "answer":
        yield _load(row)(answer, page=page, explain=explain)
    else:
        from resolver.render.report import report  # noqa: PLC0415 - for these formats alone

        drawn = report(answer, explain=explain, full=full or not row.fits_width, clean=clean)
        if row.fits_width:
            yield _load(row)(drawn, page._replace(width=None) if full else page)
        else:
            yield _load(row)(drawn)


def render_values(value: Plain, form: str) -> str:
    """Render plain values as JSON, JSON lines or YAML."""
    return _load(renderer(form))(value)


def _load(row: Renderer) -> Callable[..., str]:
    module, _, function = row.place.partition(":")
    loaded: Callable[..., str] = getattr(import_module(module), function)
    return loaded
