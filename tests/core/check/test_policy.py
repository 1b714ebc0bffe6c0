"""Policy files: their meaning, and every error with line and column."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.check.check import Requirements
from resolver.core.check.policy import FIELDS, MAX_IMAGES, Policy, read_policy
from resolver.core.lint.findings import Severity
from resolver.core.platforms.platform import Platform
from resolver.core.results.attestations import TrustOptions
from resolver.errors import BadFile
from resolver.files import yaml

P = Platform.parse

GOOD = """\
# what we ship
version: 1
defaults:
  require: [linux/amd64, linux/arm64]
  max-age: 90d
  lint: error
images:
  - ubuntu:24.04
  - image: reg.test/team/app:1
    require: "windows/amd64:ltsc2022"
    forbid: [linux/386]
    only: [windows/amd64]
    compatible: true
    require-attestation: [sbom, provenance]
    lint: never
    ignore: [too-old, identical-layers]
    same-platforms-as: oci:./layout:1
"""


def read(text: str) -> Policy:
    return read_policy(yaml.parse(text.encode(), "policy.yaml"))


def test_policy_image_overrides_the_defaults() -> None:
    policy = read(GOOD)

    defaults = Requirements(
        require=(P("linux/amd64"), P("linux/arm64")), max_age=7_776_000, lint=Severity.ERROR
    )
    assert policy.defaults == defaults
    assert [(image.reference, image.wanted) for image in policy.images] == [
        ("ubuntu:24.04", defaults),
        (
            "reg.test/team/app:1",
            Requirements(
                require=(P("windows/amd64:10.0.20348"),),
                forbid=(P("linux/386"),),
                only=(P("windows/amd64"),),
                compatible=True,
                attestations=("sbom", "provenance"),
                max_age=7_776_000,
                ignore=("too-old", "identical-layers"),
                same_as="oci:./layout:1",
            ),
        ),
    ]


def test_policy_may_be_written_in_json() -> None:
    written = {
        "version": 1,
        "defaults": {"require": ["linux/amd64"], "compatible": False},
        "images": ["ubuntu:24.04", {"image": "alpine:3", "max-age": "8w"}],
    }

    for text in (json.dumps(written), json.dumps(written, indent="\t")):
        policy = read(text)
        assert [image.wanted.max_age for image in policy.images] == [0, 8 * 7 * 86_400]


def test_policy_options_change_defaults_and_not_images() -> None:
    root = yaml.parse(GOOD.encode(), "policy.yaml")
    other = Requirements(require=(P("linux/s390x"),))

    policy = read_policy(root, over=lambda _defaults: other)

    assert policy.defaults == policy.images[0].wanted == other
    assert policy.images[1].wanted.require == (P("windows/amd64:10.0.20348"),)
    assert policy.images[1].wanted.max_age == 0


def test_policy_names_who_must_sign() -> None:
    policy = read_policy(
        yaml.parse(
            b"""\
version: 1
defaults:
  require-attestation: [signature]
  issuer: https://issuer.example.com
  trusted-root: root.json
images:
  - image: app:1
    identity: ci
    cover: index
  - image: app:2
    key: keys/cosign.pub
  - image: app:3
    key: /etc/cosign.pub
""",
            "rules/policy.yaml",
        )
    )

    assert [image.wanted.cover for image in policy.images] == ["index", *["each-platform"] * 2]
    assert [image.wanted.trust for image in policy.images] == [
        TrustOptions(
            identity="ci", issuer="https://issuer.example.com", trusted_root="rules/root.json"
        ),
        TrustOptions(key="rules/keys/cosign.pub"),
        TrustOptions(key="/etc/cosign.pub"),
    ]


def with_image(*lines: str) -> str:
    return "version: 1\nimages:\n  - image: a\n" + "".join(f"    {line}\n" for line in lines)


# What is wrong, where, in which words, and what to do about it.
@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "policy.yaml:1:1: it is empty", "begin with `version: 1` and `images:`"),
        ("[]", "policy.yaml:1:1: names with values are expected here (`name: value`)", ""),
        ("images: [a]", "policy.yaml:1:1: it has no `version`", "begin with `version: 1`"),
        (
            "version: 1",
            "policy.yaml:1:1: it has no `images`",
            "list them: `images: [ubuntu:24.04]`",
        ),
        (
            "version: 2\nimages: [a]",
            "policy.yaml:1:10: version: this version is not supported, only 1",
            "a newer `resolver` may support it",
        ),
        (
            "version: '1'\nimages: [a]",
            "policy.yaml:1:10: version: a whole number is expected here",
            "",
        ),
        ("version: 1\nimages: []", "policy.yaml:2:9: images: no image is listed", ""),
        ("version: 1\nimages: a", "policy.yaml:2:9: images: a list is expected here", ""),
        (
            "version: 1\nimage: [a]",
            "policy.yaml:2:1: image: unknown field",
            "did you mean `images`?",
        ),
        (
            "version: 1\nimages:\n  - a",
            "policy.yaml:3:5: images[0]: this image has no requirements",
            "add `require: [linux/amd64]` or `defaults`",
        ),
        (
            "version: 1\nimages:\n  - require: [linux/amd64]",
            "policy.yaml:3:5: images[0]: it has no `image`",
            "name one: `image: ubuntu:24.04`",
        ),
        (
            "version: 1\nimages:\n  - image: 1.10\n    require: linux/amd64",
            "policy.yaml:3:12: images[0].image: text is expected here, but without",
            'put it in quotes, as in `"1.10"`',
        ),
        (
            "version: 1\nimages:\n  - Bad//Name",
            "policy.yaml:3:5: images[0]: `Bad//Name` is not an image reference",
            "",
        ),
        (
            with_image("require: [linux/amd64, linux/]"),
            (
                "policy.yaml:4:28: images[0].require[1]: this is not a platform: "
                "`` is not an architecture"
            ),
            "write `os/arch[/variant][:os.version]`",
        ),
        (
            with_image("requires: [linux/amd64]"),
            "policy.yaml:4:5: images[0].requires: unknown field",
            "did you mean `require`?",
        ),
        (
            with_image("max_age: 90d"),
            "policy.yaml:4:5: images[0].max_age: unknown field",
            "did you mean `max-age`?",
        ),
        (
            with_image("max-age: 90"),
            "policy.yaml:4:14: images[0].max-age: an age needs a unit",
            "write `12h`, `90d`, `8w` or `1y`",
        ),
        (
            with_image("max-age: soon"),
            "policy.yaml:4:14: images[0].max-age: this is not an age",
            "write `12h`, `90d`, `8w` or `1y`",
        ),
        (
            with_image("require-attestation: [sbom, vex]"),
            "policy.yaml:4:33: images[0].require-attestation[1]: this is not a kind of attestation",
            "choose from `sbom`, `provenance`",
        ),
        (
            with_image("lint: fatal"),
            "policy.yaml:4:11: images[0].lint: this is not a severity",
            "choose `error`, `warning`, `note`, `never`",
        ),
        (
            with_image("compatible: yes"),
            "policy.yaml:4:17: images[0].compatible: `true` or `false` is expected here",
            "",
        ),
        (
            with_image("ignore: [to-old]"),
            "policy.yaml:4:14: images[0].ignore[0]: unknown rule",
            "did you mean `too-old`?",
        ),
        (
            with_image("ignore: zzzzzz"),
            "policy.yaml:4:13: images[0].ignore: unknown rule",
            "see `resolver check --help` and `resolver lint --rules`",
        ),
        (
            with_image("require:"),
            "policy.yaml:4:13: images[0].require: text is expected here, but there is none",
            "",
        ),
        (
            "version: 1\ndefaults: {max-age: 1d}\nimages:\n  - image: a\n    image: b",
            "policy.yaml:5:5: images[0].image: this key is defined twice",
            "",
        ),
    ],
)
def test_policy_error_names_its_position(text: str, message: str, hint: str) -> None:
    with pytest.raises(BadFile) as caught:
        read(text)

    assert str(caught.value).startswith(message)
    assert hint in "\n".join(caught.value.hints())


def test_policy_limits_the_number_of_images() -> None:
    head = "version: 1\ndefaults: {max-age: 1d}\nimages: ["

    assert len(read(head + "a," * MAX_IMAGES + "]").images) == MAX_IMAGES
    with pytest.raises(BadFile, match=r"^policy\.yaml:3:9: images: there are more than 10000"):
        read(head + "a," * (MAX_IMAGES + 1) + "]")


_WORDS = st.sampled_from(["linux/amd64", "1d", "sbom", "error", "too-old", "true", "1.5", "", "a"])
_VALUES = _WORDS | st.lists(_WORDS, max_size=2) | st.integers() | st.booleans() | st.none()


@given(st.dictionaries(st.sampled_from([*FIELDS, "image", "odd"]), _VALUES))
def test_any_policy_is_read_or_refused_with_its_position(entry: object) -> None:
    text = json.dumps({"version": 1, "images": [entry]}, indent=1)
    message = ""
    try:
        read(text)
    except BadFile as error:
        message = str(error)
    assert not message or message.startswith("policy.yaml:")
