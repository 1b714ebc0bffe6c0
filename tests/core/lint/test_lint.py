"""Properties of lint over generated images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from resolver.core.lint.entries import BASELINE_NOT_FIRST
from resolver.core.lint.findings import Severity
from resolver.core.lint.lint import RULES, lint_subject, without
from resolver.core.lint.subject import Subject
from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.image import ImageEntry
from resolver.core.oci.manifest import Index
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.errors import BadDocument, BlobNotFound, ManifestNotFound, SizeMismatch
from tests.kit.platforms import platforms

if TYPE_CHECKING:
    from random import Random

_FAILURES = (
    ManifestNotFound("app", "place"),
    BlobNotFound("sha256:0", "place"),
    SizeMismatch("it", 1, 2),
    BadDocument("it", "mediaType", "no"),
    BadDocument("it", "layers", "no"),
)


def described(number: int, platform: Platform | None, **extra: str) -> Descriptor:
    digest = Digest.of(str(number).encode())
    return Descriptor(OCI_MANIFEST, digest, number, platform, annotations=tuple(extra.items()))


def subject(parts: list[ImageEntry]) -> Subject:
    index = Index(OCI_INDEX, tuple(part.descriptor for part in parts))
    root = Descriptor(OCI_INDEX, Digest.of(b"root"), 4)
    return Subject("app:1", BUILTIN, root, index, tuple(parts))


@st.composite
def entries(draw: st.DrawFn) -> list[ImageEntry]:
    """Some entries of an index, of which some could not be read."""
    drawn = draw(
        st.lists(
            st.tuples(st.none() | platforms, st.none() | st.sampled_from(_FAILURES)), max_size=6
        )
    )
    return [
        ImageEntry(described(number, platform), (number,), platform, None, None, failure)
        for number, (platform, failure) in enumerate(drawn)
    ]


@given(entries(), st.randoms())
def test_lint_result_does_not_depend_on_entry_order(
    parts: list[ImageEntry], random: Random
) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)

    one, other = (
        without(lint_subject(subject(each)), [BASELINE_NOT_FIRST.id]) for each in (parts, shuffled)
    )

    assert one == other


@given(entries())
def test_attestation_of_an_entry_adds_no_finding(parts: list[ImageEntry]) -> None:
    statements = []
    for number, part in enumerate(parts, 100):
        unknown = Platform("unknown", "unknown")
        marks = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": str(part.descriptor.digest),
        }
        descriptor = described(number, unknown, **marks)
        statements.append(ImageEntry(descriptor, (number,), unknown, None, None))

    assert lint_subject(subject(parts + statements)) == lint_subject(subject(parts))


@given(entries())
def test_findings_are_sorted_by_severity_without_duplicates(parts: list[ImageEntry]) -> None:
    found = lint_subject(subject(parts))
    weights = [list(Severity).index(finding.severity) for finding in found]

    assert weights == sorted(weights, reverse=True)
    assert len(set(found)) == len(found)
    assert {finding.rule for finding in found} <= {row.rule.id for row in RULES}


@given(entries())
def test_every_lint_failure_is_reported(parts: list[ImageEntry]) -> None:
    failed = {str(part.failure) for part in parts if part.failure is not None}

    assert failed <= {finding.message for finding in lint_subject(subject(parts))}


@given(entries())
def test_ignored_findings_do_not_change_the_others(parts: list[ImageEntry]) -> None:
    found = lint_subject(subject(parts))

    for row in RULES:
        kept = without(found, [row.rule.id])
        assert kept == tuple(finding for finding in found if finding.rule != row.rule.id)
