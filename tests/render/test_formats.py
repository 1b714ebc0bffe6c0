"""Every answer in every format: one page wide, escaped, ASCII where machines read it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import yaml

from resolver.core.answer import Considered, Failure, Resolution
from resolver.core.contents import Inspection, Offer, Offers
from resolver.core.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from resolver.core.digest import Digest
from resolver.core.events import Warned
from resolver.core.manifest import parse_document
from resolver.core.platform import Platform
from resolver.core.select import Grade
from resolver.core.stored import ImageUsage
from resolver.core.stored import Usage as StoreUsage
from resolver.errors import ManifestNotFound, PlatformNotOffered, ResolverError, Usage
from resolver.render import RENDERERS, tell
from resolver.render.plain import plain
from resolver.render.text import WIDTH
from tests.render.answers import STORE_ANSWERS
from tests.render.compared import COMPARED

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
FAILURE = Failure("example.com/app:1", "linux/arm64", ManifestNotFound("app:1", HOSTILE))
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
def test_every_answer_has_every_form_and_none_lets_a_control_through(
    name: str, form: str, *, explain: bool
) -> None:
    if (form == "ref" and name in {"offers", "inspection"}) or (
        form in {"ref", "digest"} and name in WORDLESS
    ):
        with pytest.raises(Usage):
            tell(ANSWERS[name], form)
        return

    text = tell(ANSWERS[name], form, explain=explain)

    assert text.endswith("\n") or (name == "empty listing" and not text)
    assert not {"\x1b", "\x07", "\u202e", "\u2028"} & set(text)
    assert not any(line.startswith(("::", "##")) for line in text.splitlines())


@pytest.mark.parametrize("name", ANSWERS)
def test_text_fits_eighty_columns(name: str) -> None:
    # Of a listing, that is to show digests too, whose table is as wide as it needs.
    text = tell(ANSWERS[name], "table", explain="listing" not in name and name != "stored")

    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("name", ANSWERS)
def test_with_no_trunc_whole_digests_stand_in_tables(name: str) -> None:
    text = tell(ANSWERS[name], "table", explain=True, full=True)

    assert "…" not in text
    if name in {"resolution", "offers"}:
        assert str(CHOSEN.digest) in text


@pytest.mark.parametrize("name", [*ANSWERS, "failure"])
def test_json_json_lines_and_yaml_say_the_same_in_ascii(name: str) -> None:
    answer = {**ANSWERS, "failure": FAILURE}[name]
    told = {form: tell(answer, form) for form in ("json", "jsonl", "yaml")}

    assert all(text.isascii() for text in told.values())
    assert told["jsonl"].count("\n") == 1
    assert json.loads(told["json"]) == json.loads(told["jsonl"]) == yaml.safe_load(told["yaml"])


def test_a_resolution_in_json_names_both_digests_and_the_grade() -> None:
    told = json.loads(tell(RESOLUTION, "json", explain=True))

    assert told["schema"] == 1
    assert told["manifest"]["digest"] == str(CHOSEN.digest)
    assert told["index"]["digest"] == str(INDEX.digest)
    assert told["platform"] == {"os": "linux", "architecture": "arm64", "variant": "v8"}
    assert told["normalized"] == {"os": "linux", "architecture": "arm64"}
    assert told["grade"] == "normalised"
    assert [entry["reason"] for entry in told["entries"]] == ["other architecture", ""]


@pytest.mark.parametrize("form", ["digest", "ref"])
def test_a_failure_among_many_keeps_its_place(form: str) -> None:
    assert tell(FAILURE, form) == "-\n"


def test_an_error_in_json_has_class_code_status_hints_and_facts() -> None:
    error = PlatformNotOffered("app:1", "linux/s390x", ["linux/amd64"], [])

    told = plain(error)["error"]

    assert told == {
        "class": "PLATFORM",
        "code": "platform-not-offered",
        "status": 3,
        "message": "`app:1` is not offered for `linux/s390x`",
        "hints": ["it is offered for `linux/amd64`"],
        "reference": "app:1",
        "wanted": "linux/s390x",
        "offered": ["linux/amd64"],
        "near": [],
    }


def test_remote_text_in_an_error_is_escaped_in_json_too() -> None:
    error = ResolverError(HOSTILE, HOSTILE)
    error.kind, error.code, error.word = (  # type: ignore[misc]  # a failure for this test alone
        ManifestNotFound.kind,
        "x",
        "x",
    )

    assert "\x1b" not in json.dumps(plain(error), ensure_ascii=False)


def test_a_format_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(Usage) as caught:
        tell(RESOLUTION, "xml")

    assert "table" in caught.value.hints()[0]


def test_an_image_that_shares_with_hundreds_takes_a_few_rows() -> None:
    sharers = tuple((f"example.com/app:{number}", 1000) for number in range(400))
    usage = StoreUsage(
        (ImageUsage("example.com/app:x", Digest.of(b"x"), 0, 1000, sharers),), 0, 0, 0, 0
    )

    told = tell(usage, "table")
    assert told.count("example.com/app:") == 5
    assert "and 396 more (`--no-trunc`)" in told
    assert tell(usage, "table", full=True).count("example.com/app:") == 401


@pytest.mark.parametrize("form", ["table", "markdown", "html", "json", "yaml"])
def test_a_platform_can_be_copied_from_every_format(form: str) -> None:
    odd = [
        Platform("darwin", "arm64", "", "macOS 14.4"),
        Platform("freebsd", "amd64", "", "14.1"),
        Platform("linux", "amd64", "v3", "", ("a+b",)),
        Platform("linux", "ev|l`", "<b>"),
    ]
    offers = tuple(replace(OFFERS.offers[0], platform=platform) for platform in odd)

    written = tell(replace(OFFERS, offers=offers), form)
    if form == "markdown":
        # As it is read: a backslash before punctuation is not shown.
        written = re.sub(r"\\([!-/:-@[-`{-~])", r"\1", written)

    assert all(str(platform) in written for platform in odd)
    assert [Platform.parse(str(platform)) for platform in odd] == odd
