"""Every answer in every format: one page wide, escaped, ASCII where machines read it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.compare.compare import Comparison
from resolver.core.compare.file_difference import FileDifference, FileFacts, PathChange
from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import LeftOut, parse_document
from resolver.core.platforms.platform import Grade, Platform
from resolver.core.results.events import Warned
from resolver.core.results.pull import Pulled, PulledOne
from resolver.core.results.resolve import Considered, Failure, Inspection, Offer, Offers, Resolution
from resolver.core.results.store import DiskUsage as StoreUsage
from resolver.core.results.store import ImageUsage
from resolver.errors import ManifestNotFound, PlatformNotOffered, ResolverError, Usage
from resolver.render import RENDERERS, render, render_chunks, render_values
from resolver.render.answers.files import MOST_ROWS
from resolver.render.markdown import cell
from resolver.render.report import Report, ReportTable
from resolver.render.text import PIPE, Page
from resolver.render.text import text as draw
from resolver.render.to_dict import Plain, Rows, to_dict
from tests.kit.answers import STORE_ANSWERS, planned
from tests.kit.comparisons import COMPARED
from tests.kit.comparisons import files as compared_files

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE = "a\x1b[2J\u202e\x07\u2028::error::x"
ARM = Platform("linux", "arm64", "v8")


def descriptor(
    content: bytes, media_type: str = OCI_MANIFEST, platform: Platform | None = None
) -> Descriptor:
    return Descriptor(media_type, Digest.of(content), len(content), platform)


INDEX = descriptor(b"index", OCI_INDEX)
CHOSEN = descriptor(b"chosen", platform=ARM)
LOSER = descriptor(b"loser", platform=Platform("linux", "amd64"))
RESOLUTION = Resolution(
    reference="docker.io/library/ubuntu:24.04",
    pinned=f"docker.io/library/ubuntu@{CHOSEN.digest}",
    pinned_index=f"docker.io/library/ubuntu@{INDEX.digest}",
    wanted=(Platform("linux", "arm64"),),
    explicit=True,
    index=INDEX,
    manifest=CHOSEN,
    platform=ARM,
    normalized=Platform("linux", "arm64"),
    grade=Grade.NORMALISED,
    considered=(
        Considered((0,), LOSER, chosen=False, reason="other architecture"),
        Considered((1,), CHOSEN, chosen=True, reason=""),
    ),
    tag_verified=None,
    warnings=(Warned("fallback-platform", HOSTILE),),
)
OFFERS = Offers(
    "docker.io/library/ubuntu:24.04",
    INDEX,
    (Offer(LOSER, LOSER.platform, 29_723_147, 1, None), Offer(CHOSEN, ARM, None, None, None)),
    (Offer(descriptor(b"statement"), None, None, None, str(CHOSEN.digest)),),
    (),
)
_CONFIG = descriptor(b"{}", "application/vnd.oci.image.config.v1+json")
_BODY = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": _CONFIG.media_type, "digest": str(_CONFIG.digest), "size": 2},
        "layers": [],
        "annotations": {"note": HOSTILE, HOSTILE: "value"},
    }
).encode()
INSPECTION = Inspection(
    "example.com/app:1",
    descriptor(_BODY),
    descriptor(_BODY),
    ARM,
    None,
    parse_document(_BODY, OCI_MANIFEST, "test"),  # type: ignore[arg-type]  # a manifest it is
    None,
    _BODY,
    None,
    (),
)
FAILURE = Failure("example.com/app:1", ("linux/arm64",), ManifestNotFound("app:1", HOSTILE))
ANSWERS: dict[str, object] = {
    "resolution": RESOLUTION,
    "offers": OFFERS,
    "inspection": INSPECTION,
    "failure": FAILURE,
    **STORE_ANSWERS,
    **COMPARED,
}
#: Answers that name no images, so that some formats have nothing to say.
WORDLESS = {"removed", "collected", "verified", "usage", *COMPARED}


@pytest.mark.parametrize("form", RENDERERS)
@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("explain", [False, True])
def test_every_answer_has_every_format_without_control_characters(
    name: str, form: str, *, explain: bool
) -> None:
    if (form == "ref" and name in {"offers", "inspection"}) or (
        form in {"ref", "digest"} and name in WORDLESS
    ):
        with pytest.raises(Usage):
            render(ANSWERS[name], form)
        return

    text = render(ANSWERS[name], form, explain=explain)

    assert text.endswith("\n") or (name == "empty listing" and not text)
    assert not {"\x1b", "\x07", "\u202e", "\u2028"} & set(text)
    assert not any(line.startswith(("::", "##")) for line in text.splitlines())


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal(name: str, width: int) -> None:
    text = render(ANSWERS[name], "table", explain=True, page=Page(width))

    # Only a name that is longer than the terminal is longer than it: it has a line of its own.
    wide = [line for line in text.splitlines() if len(line.replace("\\x3a", ":")) > width]
    assert all(len(re.split("  +", line.strip())) == 1 for line in wide)


@pytest.mark.parametrize("name", ANSWERS)
def test_tables_are_not_cut_without_a_terminal(name: str) -> None:
    output = render(ANSWERS[name], "table", explain=True)

    # Further rows may only be counted, with a note on how to see them.
    assert "…" not in re.sub("… and [0-9]+ more", "", output)


NAME = "registry.corp.example:5000/platform/payments/gateway-backend"
REPORT = Report(
    "names",
    (),
    (
        ReportTable(
            "names",
            ("state", "reference", "why", "size"),
            (("moved", NAME, "a sentence that is long enough to be cut somewhere", "12.3 MB"),),
            frozenset({"size"}),
            frozenset({"state"}),
        ),
    ),
)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_names_are_whole_and_sentences_wrap(width: int) -> None:
    heading, *lines = draw(REPORT, Page(width)).splitlines()
    ends = [heading.index("REFERENCE"), heading.index("WHY"), heading.index("SIZE") + 4]
    whys = " ".join(line[ends[1] :].removesuffix("12.3 MB").strip() for line in lines)

    assert sum(NAME in line for line in lines) == 1
    assert (
        whys.replace(NAME, "")
        .strip()
        .endswith("a sentence that is long enough to be cut somewhere")
    )
    assert any(line.endswith("12.3 MB") for line in lines)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("width", [20, 40, 59])
def test_table_becomes_a_list_on_a_narrow_terminal(width: int) -> None:
    drawn = draw(REPORT, Page(width))
    assert " ".join(drawn.split()) == (
        f"state moved reference {NAME} "
        "why a sentence that is long enough to be cut somewhere size 12.3 MB"
    )
    lines = drawn.splitlines()
    assert f"reference  {NAME}" in lines
    # Only a name is longer than the line; sentences wrap behind their label.
    assert all(len(line) <= max(width, 27) for line in lines if NAME not in line)
    assert all(line.startswith(" " * 11) for line in lines[3:-1])


def test_table_that_cannot_fit_becomes_a_list() -> None:
    numbers = tuple("ABCDEFGHI")
    table = ReportTable(
        "wide", numbers, (tuple("1234567 MB" for _ in numbers),), frozenset(numbers)
    )

    assert "A  1234567 MB\nB  1234567 MB" in draw(Report("", (), (table,)), Page(80))
    assert len(draw(Report("", (), (table,)), Page(120)).splitlines()) == 2


def test_digests_are_shortened_before_names_leave_their_column() -> None:
    columns = ("repository", "digest", "image id", "size")
    row = ("ghcr.io/owner/application", "sha256:0123456789ab", "0123456789ab", "1.00 MB")
    table = ReportTable("images", columns, (row,), frozenset({"size"}))

    (_, line) = draw(Report("", (), (table,)), Page(60)).splitlines()
    assert line.split() == ["ghcr.io/owner/application", "sha256:0123456", "01234567", "1.00", "MB"]
    (_, whole) = draw(Report("", (), (table,)), Page(80)).splitlines()
    assert "sha256:0123456789ab  0123456789ab" in whole


def test_no_cell_is_empty_so_that_columns_can_be_split() -> None:
    table = ReportTable("images", ("name", "note", "size"), (("app", "", "1 B"),))

    (_, line) = draw(Report("", (), (table,)), PIPE).splitlines()
    assert re.split("  +", line) == ["app", "-", "1 B"]


@pytest.mark.parametrize(
    ("column", "cell", "code"),
    [
        ("platform", "linux/arm64", "36"), ("platform", "-", ""), ("grade", "exact", "32"),
        ("grade", "fallback", "33"), ("state", "moved", "33"), ("state", "missing", "31"),
        ("state", "partial, 1 MB held", "33"), ("severity", "error", "31"),
        ("severity", "warning", "33"), ("severity", "note", "36"), ("delta", "+1.00 MB", "31"),
        ("delta", "-1.00 MB", "32"), ("delta", "same", ""), ("delta", "-", ""),
        ("result", "removed", "31"), ("name", "error", ""),
    ],
)  # fmt: skip
def test_colours_of_cells_change_nothing_else(column: str, cell: str, code: str) -> None:
    table = ReportTable("t", ("x", column, "y"), (("a", cell, "b"),))
    for width in (None, 40, 80):
        plain = draw(Report("", (), (table,)), Page(width))
        coloured = draw(Report("", (), (table,)), Page(width, colour=True))

        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
        assert (f"\x1b[{code}m{cell}\x1b[0m" in coloured) == bool(code)
        assert ("\x1b" in coloured) == bool(code)


def test_row_is_one_line_without_a_terminal() -> None:
    (_, row) = draw(REPORT, PIPE).splitlines()

    assert row == f"moved  {NAME}  a sentence that is long enough to be cut somewhere  12.3 MB"


@pytest.mark.parametrize("name", ANSWERS)
def test_no_trunc_prints_whole_digests_in_tables(name: str) -> None:
    text = render(ANSWERS[name], "table", explain=True, full=True)

    assert "…" not in text
    if name in {"resolution", "offers"}:
        assert str(CHOSEN.digest) in text


@pytest.mark.parametrize("name", [*ANSWERS, "failure"])
def test_json_json_lines_and_yaml_are_equal_ascii(name: str) -> None:
    answer = {**ANSWERS, "failure": FAILURE}[name]
    output = {form: render(answer, form) for form in ("json", "jsonl", "yaml")}

    assert all(text.isascii() for text in output.values())
    assert output["jsonl"].count("\n") == 1
    assert (
        json.loads(output["json"]) == json.loads(output["jsonl"]) == yaml.safe_load(output["yaml"])
    )


@pytest.mark.parametrize("count", [0, 1, 250])
def test_json_rows_are_written_like_a_list(count: int) -> None:
    """Inside lists and dictionaries, with line breaks, None, and CI commands."""
    made = [
        {
            "path": f"{number}\n- a: b ##[error]x \u00fc",
            "none": {},
            "list": [],
            "is": [True, None, 1],
        }
        for number in range(count)
    ]

    def document(rows: object) -> Plain:
        return {"a": [{"first": rows, "b": rows}], "c": {"d": {"e": rows}, "f": 1}, "g": rows}

    for form in ("json", "jsonl", "yaml"):
        as_list = render_values(document(made), form)
        assert render_values(document(Rows(dict, made)), form) == as_list
        assert "##[" not in as_list


def sample(count: int) -> Comparison:
    comparison = COMPARED["comparison"]
    assert isinstance(comparison, Comparison)
    assert comparison.files is not None
    apart = comparison.files.others[-1]
    files = compared_files(count)
    return replace(comparison, files=replace(files, others=(*files.others, apart)))


def test_long_document_is_written_in_pieces() -> None:
    comparison = sample(3_000)
    pieces = list(render_chunks(comparison, "json"))

    assert json.loads("".join(pieces)) == json.loads(render(comparison, "json"))
    assert len(pieces) > 5
    assert max(map(len, pieces)) < 100_000


@pytest.mark.parametrize("form", ["table", "markdown"])
@pytest.mark.parametrize(("length", "shown"), [(4, MOST_ROWS), (4_000, 1_045)])
def test_table_of_paths_is_limited(form: str, length: int, shown: int) -> None:
    """All rows are in memory at once: 20,000 of them, or 4 MiB of text."""
    after = FileFacts("x", "file", 0o644, 0, 0, 0)
    paths = [f"path-{each:05}{'x' * (length - 4)}" for each in range(MOST_ROWS + 7)]
    differences = [FileDifference(path, (PathChange.ADDED,), None, after) for path in paths]
    comparison = sample(1)
    files = comparison.files
    assert files is not None
    first = replace(files.others[0], differences=tuple(differences))
    files = replace(files, others=(first, *files.others[1:]))
    text = render(replace(comparison, files=files), form, full=True)

    assert text.count("path-") == shown
    assert f"and {len(paths) - shown} more (`--format json`)" in text.replace("\\", "")


def test_resolution_in_json_has_both_digests_and_the_grade() -> None:
    output = json.loads(render(RESOLUTION, "json", explain=True))

    assert output["schema"] == 1
    assert output["manifest"]["digest"] == str(CHOSEN.digest)
    assert output["index"]["digest"] == str(INDEX.digest)
    assert output["platform"] == {"os": "linux", "architecture": "arm64", "variant": "v8"}
    assert output["normalized"] == {"os": "linux", "architecture": "arm64"}
    assert output["grade"] == "normalised"
    assert [entry["reason"] for entry in output["entries"]] == ["other architecture", ""]


@pytest.mark.parametrize("form", ["digest", "ref"])
def test_failure_among_several_keeps_its_position(form: str) -> None:
    assert render(FAILURE, form) == "-\n"


def test_json_error_has_class_code_status_hints_and_facts() -> None:
    error = PlatformNotOffered("app:1", "linux/s390x", ["linux/amd64"], [])

    output = to_dict(error)["error"]

    assert output == {
        "class": "PLATFORM",
        "code": "platform-not-offered",
        "status": 3,
        "message": "`app:1` is not offered for `linux/s390x`",
        "hints": ["it is offered for `linux/amd64`"],
        "reference": "app:1",
        "wanted": ["linux/s390x"],
        "offered": ["linux/amd64"],
        "near": [],
    }


def test_json_error_escapes_remote_text() -> None:
    error = ResolverError(HOSTILE, HOSTILE)
    error.kind, error.code, error.word = (  # type: ignore[misc]  # a failure for this test alone
        ManifestNotFound.kind,
        "x",
        "x",
    )

    assert "\x1b" not in json.dumps(to_dict(error), ensure_ascii=False)


def test_unknown_format_error_lists_the_known_ones() -> None:
    with pytest.raises(Usage) as caught:
        render(RESOLUTION, "xml")

    assert "table" in caught.value.hints()[0]


def test_pull_of_many_images_is_reported_in_one_pass_over_what_is_left_out() -> None:
    passes = []

    class Counted(tuple[LeftOut, ...]):
        __slots__ = ()

        def __iter__(self) -> Iterator[LeftOut]:
            passes.append(1)
            return super().__iter__()

    images = [planned(None, f"example.com/app:{number}") for number in range(300)]
    left_out = Counted(LeftOut(image.reference, "attestation", INDEX, None) for image in images[1:])
    done = Pulled(
        tuple(PulledOne(image, "downloaded", (), ()) for image in images), (), (), (),
        left_out=left_out,
    )  # fmt: skip

    shown = render(done, "table").splitlines()
    assert sum(line.startswith("Status: Downloaded") for line in shown) == 300
    assert sum(line.startswith("Left out: 1 attestation") for line in shown) == 299
    assert not shown[0].startswith("Left out")
    assert len(passes) == 1


def test_image_that_shares_with_hundreds_has_a_few_rows() -> None:
    sharers = tuple((f"example.com/app:{number}", 1000) for number in range(400))
    usage = StoreUsage(
        (ImageUsage("example.com/app:x", Digest.of(b"x"), 0, 1000, sharers),), 0, 0, 0, 0
    )

    output = render(usage, "table")
    assert output.count("example.com/app:x") == 5
    assert "and 396 more (`--no-trunc`)" in output
    assert render(usage, "table", full=True).count("example.com/app:x") == 400


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("reg.test/app@sha256:0a", "`reg.test/app@sha256:0a`"),
        ("linux/amd64, darwin(macOS%2014)/arm64", "`linux/amd64`, `darwin(macOS%2014)/arm64`"),
        ("linux(+gpu)/arm64 (2)", "`linux(+gpu)/arm64` (2)"),
        (
            "`a/b` is `linux(+gpu)/arm64`, took x/y+z.",
            "`a/b` is `linux(+gpu)/arm64`, took `x/y+z`.",
        ),
        ("2/2 +2", r"2/2 \+2"),
        # No text from outside opens a code span that it does not close, or ends one or a cell.
        ("``a/b`", "&#96;&#96;a/b&#96;"),
        ("`a|b`", r"&#96;a\|b&#96;"),
        ("a/b` [x](y) `", "a/b` [x](y) `"),
        ("\\`a/b`", r"\\`a/b`"),
        ("a/b|c", r"a/b\|c"),
        ("a/<b>", r"a/\<b\>"),
        ("run `resolver lint --deep`", "run `resolver lint --deep`"),
        ("one ` alone", "one &#96; alone"),
        ("@someone", r"\@someone"),
    ],
)
def test_markdown_names_are_code_and_other_text_is_escaped(text: str, written: str) -> None:
    assert cell(text) == written


@given(st.text(st.sampled_from("`a/:@(|)\\ ,.<+"), max_size=12))
def test_text_never_leaves_markdown_code_or_cells_open(text: str) -> None:
    # From left to right, as a reader of Markdown does: escaped pairs, and code up to its end.
    rest = re.sub(r"\\[!-/:-@[-`{-~]|`[^`|]+`", "", cell(text))

    assert not set("`|\\<") & set(rest)


@pytest.mark.parametrize("form", ["table", "markdown", "html", "json", "yaml"])
def test_printed_platform_is_accepted_from_every_format(form: str) -> None:
    odd = [
        Platform("darwin", "arm64", "", "macOS 14.4"),
        Platform("freebsd", "amd64", "", "14.1"),
        Platform("linux", "amd64", "v3", "", ("a+b",)),
        Platform("linux", "ev|l`", "<b>"),
    ]
    offers = tuple(replace(OFFERS.offers[0], platform=platform) for platform in odd)

    written = render(replace(OFFERS, offers=offers), form)

    quote = "`" if form == "markdown" else ""
    assert all(f"{quote}{platform}{quote}" in written for platform in odd)
    assert [Platform.parse(str(platform)) for platform in odd] == odd
