"""Results of `attestations`: what is attached to an index and to each of its images."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from resolver.core.lint.findings import Finding, Rule, Severity
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.core.results.events import Warned

#: What an attestation can be, in the order of the columns.
KINDS = ("signature", "sbom", "provenance", "other")


class State(Enum):
    """The state of an attestation, the most useful first."""

    #: Signed by the given key or identity, and about this manifest.
    VERIFIED = "verified"
    #: About this manifest; its signature was not verified, or it has none.
    PRESENT = "present"
    #: About another manifest.
    WRONG_SUBJECT = "wrong subject"
    #: About something that is no manifest of this index, for example a file of the image.
    OTHER_SUBJECT = "other subject"
    #: Its signature or its certificate was rejected.
    INVALID = "invalid"
    UNREADABLE = "unreadable"
    ABSENT = "absent"


class Place(Enum):
    """Where an attestation was found."""

    INDEX = "index entry"
    REFERRER = "referrer"
    #: The tag with the referrers of a digest. Source: distribution-spec, "Referrers Tag Schema".
    FALLBACK = "fallback tag"
    COSIGN = "cosign tag"


@dataclass(frozen=True, slots=True)
class Attestation:
    """One signature, SBOM, provenance or other statement.

    Attributes:
        kind: one of `KINDS`.
        type: the predicate type, or the media type of content that is not a statement.
        format: how it is stored, for people: `Sigstore bundle`.
        manifest: the manifest that carries it; `blob` is its layer, None if it has none.
        signer: the verified identity or key; else `key` or `certificate`; empty if unsigned.
        reason: why it has its state; empty if that needs no reason.
    """

    kind: str
    type: str
    format: str
    found: tuple[Place, ...]
    manifest: Descriptor
    blob: Descriptor | None
    state: State
    signer: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """What is attached to one manifest; `platform` is None for the index, or if unknown."""

    platform: Platform | None
    digest: Digest
    is_index: bool
    attestations: tuple[Attestation, ...]

    @property
    def label(self) -> str:
        """`index`, or the platform; `-` if it is unknown."""
        return "index" if self.is_index else str(self.platform or "-")

    def of(self, kind: str) -> tuple[Attestation, ...]:
        """Return the attestations of a kind, the most useful first."""
        order = {state: number for number, state in enumerate(State)}
        found = [each for each in self.attestations if each.kind == kind]
        return tuple(sorted(found, key=lambda each: order[each.state]))

    def state(self, kind: str) -> State:
        """Return the most useful state of a kind."""
        found = self.of(kind)
        return found[0].state if found else State.ABSENT


def _rule(state: State, severity: Severity, title: str, explanation: str) -> Rule:
    return Rule(f"attestation-{state.value.replace(' ', '-')}", severity, title, explanation)


#: The findings of `attestations`, by state; what is absent is a matter of `check`.
_RULES = {
    State.INVALID: _rule(
        State.INVALID,
        Severity.ERROR,
        "the signature of an attestation was rejected",
        "It was not made with the given key or by the given identity, or its certificate, its "
        "log entry or its content is wrong. Do not rely on it; find out where it came from.",
    ),
    State.WRONG_SUBJECT: _rule(
        State.WRONG_SUBJECT,
        Severity.WARNING,
        "an attestation is about another manifest",
        "It was found for one manifest and is about another, for example a signature that was "
        "copied, or an SBOM of one platform that was attached to another or to the index. Make "
        "one for each platform, and attach it to the manifest of that platform.",
    ),
    State.OTHER_SUBJECT: _rule(
        State.OTHER_SUBJECT,
        Severity.NOTE,
        "an attestation is about something else than a manifest",
        "Its subject is no manifest of the index, for example a file inside the image.",
    ),
    State.UNREADABLE: _rule(
        State.UNREADABLE,
        Severity.WARNING,
        "an attestation cannot be read",
        "It is damaged, too large or missing in the registry. Attach it again.",
    ),
}
#: The rules alone, for reports.
RULES = tuple(_RULES.values())


@dataclass(frozen=True, slots=True, eq=False)
class Attestations:
    """The result of `attestations`.

    Attributes:
        rows: the index, if there is one, then its images in index order.
        verified_with: the key or the identity; empty if signatures were not verified.
    """

    reference: str
    root: Descriptor
    pinned: str
    rows: tuple[Coverage, ...]
    verified_with: str = ""
    warnings: tuple[Warned, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether something is verified, if a key or an identity was given."""
        every = (each.state for row in self.rows for each in row.attestations)
        return not self.verified_with or State.VERIFIED in every

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Attestations that do not hold."""
        return tuple(
            Finding(
                rule.id,
                rule.severity,
                f"the {each.kind} `{each.manifest.digest}` of `{row.label}` is "
                f"{each.state.value}: {each.reason}",
                self.reference,
                str(row.platform or ""),
                str(row.digest),
            )
            for row in self.rows
            for each in row.attestations
            if (rule := _RULES.get(each.state)) is not None
        )


@dataclass(frozen=True, slots=True)
class TrustOptions:
    """The trusted signer: a key, or an identity of an issuer; none by default.

    Attributes:
        key: path of a public key in PEM.
        trusted_root: path of a `trusted_root.json`; by default Sigstore's public instance, as the
            installed `sigstore` package knows it.
    """

    key: str = ""
    identity: str = ""
    issuer: str = ""
    trusted_root: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether no signer is trusted, so that nothing is verified."""
        return not (self.key or self.identity or self.issuer or self.trusted_root)


@dataclass(frozen=True, slots=True, eq=False)
class ShownDocument:
    """The document of `attestations --show`: its bytes, and what it is."""

    body: bytes
    attestation: Attestation


@dataclass(frozen=True, slots=True)
class AttestationChange:
    """A kind of attestation that differs between two images; `name` is a platform or `index`."""

    name: str
    kind: str
    before: State
    after: State


def changes_of(
    first: Iterable[Coverage], second: Iterable[Coverage], table: PlatformTable
) -> tuple[AttestationChange, ...]:
    """Compare the best state of each kind, for what both images have."""

    def name(row: Coverage) -> str:
        return str(row.platform.normalized(table)) if row.platform is not None else row.label

    before = {name(row): row for row in first}
    return tuple(
        AttestationChange(row.label, kind, earlier.state(kind), row.state(kind))
        for row in second
        if (earlier := before.get(name(row))) is not None
        for kind in KINDS
        if earlier.state(kind) is not row.state(kind)
    )


def merged(found: Iterable[Attestation]) -> tuple[Attestation, ...]:
    """Combine attestations that were found in several places."""
    # Two signatures of one payload differ in the annotations of their layers only.
    once: dict[tuple[Digest, Descriptor | None], Attestation] = {}
    for each in found:
        key = (each.manifest.digest, each.blob)
        same = once.get(key)
        places = each.found if same is None else tuple(dict.fromkeys((*same.found, *each.found)))
        once[key] = replace(same or each, found=places)
    return tuple(once.values())
