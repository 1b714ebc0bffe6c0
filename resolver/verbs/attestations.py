"""Find what is attached to an image, platform by platform, and judge it.

Requests: the index, one list of referrers per manifest (in parallel) where the registry has the
referrers API, one tag list for fallback tags and cosign's tags, and what is read. What is read is
kept in the store by digest; lists are requested every time.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from resolver.core.attestations.signatures import judge
from resolver.core.attestations.statements import (
    MAX_STATEMENT,
    Wrapping,
    architectures_of,
    parts_of,
    read_bundle,
    read_envelope,
    read_statement,
)
from resolver.core.lint.subject import IndexSbom
from resolver.core.oci.descriptor import MANIFEST_TYPES, OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST
from resolver.core.oci.digest import fallback_tag
from resolver.core.oci.manifest import Index, Manifest, parse_document, refers_to
from resolver.core.platforms.select import select
from resolver.core.results.attestations import (
    KINDS,
    Attestation,
    Attestations,
    Coverage,
    Place,
    ShownDocument,
    State,
    TrustOptions,
    merged,
)
from resolver.core.results.events import Warned
from resolver.errors import (
    BadDocument,
    LimitExceeded,
    Negative,
    NotFound,
    PlatformNotOffered,
    ResolverError,
    UnsupportedDocument,
    Untrusted,
    Usage,
)
from resolver.verbs.documents import read_manifest
from resolver.verbs.gather import Depth, gather, gather_platforms, left_out
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from resolver.core.attestations.signatures import TrustedSigner
    from resolver.core.attestations.statements import Part
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.manifest import Attached
    from resolver.core.oci.reference import Reference
    from resolver.core.platforms.platform import Platform
    from resolver.verbs.context import Context, Opened, PlatformLike
    from resolver.verbs.documents import DocumentReader, RootDocument

#: Manifests, and attestations in them, that are read for one subject.
MAX_READ = 256
#: Tags under which cosign keeps what is about `sha256:HEX`. Source: cosign, "SIGNATURE_SPEC.md".
_COSIGN = ("sig", "att", "sbom")
#: Bytes of a statement from which on only one is read at a time.
_LARGE = 4 << 20
#: Bytes of a key, and of a trusted root.
_MAX_KEY, _MAX_ROOT = 1 << 16, 4 << 20


def load_trust(options: TrustOptions) -> TrustedSigner | None:
    """Read the key or the trusted root; None without any.

    Raises:
        Usage: the options contradict each other, a file cannot be used, or an extra is missing.
    """
    from resolver.core.attestations.signatures import load_identity, load_key  # noqa: PLC0415

    if options.is_empty:
        return None
    if options.key:
        if options.identity or options.issuer or options.trusted_root:
            raise Usage(
                "a key and an identity exclude each other",
                "give either `--key FILE`, or `--identity ID --issuer URL`",
            )
        return load_key(_read_file(options.key, _MAX_KEY, "a public key"), options.key)
    if not (options.identity and options.issuer):
        raise Usage(
            "an identity is trusted together with its issuer",
            "give both: `--identity ID --issuer URL`",
        )
    name = options.trusted_root or "the trusted root of sigstore"
    if options.trusted_root:
        root = _read_file(options.trusted_root, _MAX_ROOT, "a trusted root")
    else:
        root = _public_root()
    _silence_sigstore()
    return load_identity(options.identity, options.issuer, root, name)


def _read_file(path: str, limit: int, what: str) -> bytes:
    from resolver.files.read import read_given  # noqa: PLC0415 - for keys alone

    try:
        body = read_given(path, limit)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Usage(f"cannot read `{path}`: {reason}", f"name the file of {what}") from error
    if len(body) > limit:
        raise Usage(f"`{path}` is too large for {what}: more than {limit} bytes")
    return body


def _public_root() -> bytes:
    """Read Sigstore's public trusted root from its package, without network and cache."""
    from importlib.resources import files  # noqa: PLC0415 - for identities alone

    folder = "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"
    try:
        return files("sigstore._store").joinpath(folder, "trusted_root.json").read_bytes()
    except (ImportError, OSError) as error:
        raise Usage(
            "identities are verified with `sigstore`, whose trusted root is not installed",
            "install it: `pip install 'multiarch-resolver[sigstore]'`, or give `--trusted-root`",
        ) from error


def _silence_sigstore() -> None:
    """Keep log messages of the library, which quote remote text, off standard error."""
    import logging  # noqa: PLC0415 - for identities alone

    logger = logging.getLogger("sigstore")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


class AttestationSearch:
    """The attestations of one image.

    Args:
        reader: reads documents of the place that has the image.
        root: the reference, with its document.
        jobs: documents in parallel.
        trust: None to verify no signature.
        kinds: read only these, ask for referrers only where the index lacks one of them, and raise
            errors of manifests that cannot be read; None for all, with `unreadable` instead.
        attached: what was pulled with the image; used instead of lists when offline.
    """

    def __init__(
        self,
        reader: DocumentReader,
        root: RootDocument,
        *,
        jobs: int,
        trust: TrustedSigner | None = None,
        kinds: Collection[str] | None = None,
        attached: Sequence[Attached] = (),
    ) -> None:
        self._reader = reader
        self._root = root
        self._jobs = jobs
        self._trust = trust
        self._kinds = kinds
        self._attached = attached
        self._large = threading.Lock()
        self._members: frozenset[str] = frozenset()
        self._beside: list[Descriptor] = []
        top = root.document.descriptor.digest
        if isinstance(root.parsed, Index):
            bare = gather(reader, root, Depth(manifests=False, configs=False), jobs=jobs)
            digests = [part.descriptor.digest for part in bare.parts if not part.is_attestation]
            self._members = frozenset(map(str, (top, *digests)))
            self._beside = [
                part.descriptor
                for part in bare.attestations
                if part.descriptor.annotation(_REFERENCE_TYPE) == "attestation-manifest"
                and part.descriptor.digest.is_verifiable
            ]

    def find(self, subjects: Iterable[Digest]) -> dict[Digest, tuple[Attestation, ...]]:
        """Find and judge the attestations of some manifests.

        Raises:
            LimitExceeded: more than 256 manifests refer to one of them.
            ResolverError: a list cannot be read, or a place cannot be reached.
        """
        wanted = tuple(dict.fromkeys(subjects))
        found: dict[Digest, tuple[Attestation, ...]] = dict.fromkeys(wanted, ())
        beside = ((refers_to(entry), entry) for entry in self._beside)
        self._judge(
            found,
            [
                (about, entry, Place.INDEX)
                for about, entry in beside
                if about is not None and about in found
            ],
        )
        lacking = [digest for digest in wanted if self._lacks(found[digest])]
        self._judge(found, self._referring(lacking))
        return found

    def _lacks(self, found: tuple[Attestation, ...]) -> bool:
        if self._kinds is None:
            return True
        enough = {State.VERIFIED} if self._trust is not None else {State.PRESENT}
        return bool(set(self._kinds) - {each.kind for each in found if each.state in enough})

    def _judge(
        self,
        found: dict[Digest, tuple[Attestation, ...]],
        carriers: Iterable[tuple[Digest, Descriptor, Place]],
    ) -> None:
        listed = list(dict.fromkeys(carriers))
        for about, count in Counter(about for about, _entry, _place in listed).items():
            self._limit(about, count)
        for outcome in parallel(self._look, listed, jobs=self._jobs):
            if isinstance(outcome.value, ResolverError):
                raise outcome.value
            about = outcome.item[0]
            found[about] = merged((*found[about], *outcome.value))
            self._limit(about, len(found[about]))

    def _limit(self, about: Digest, count: int) -> None:
        if count > MAX_READ:
            what = f"the list of referrers of `{about}` of `{self._root.text}`"
            raise LimitExceeded(what, MAX_READ, count, "manifests")

    def _look(self, carrier: tuple[Digest, Descriptor, Place]) -> tuple[Attestation, ...]:
        about, entry, place = carrier
        try:
            manifest = read_manifest(self._reader, entry, self._root.text)
        except (NotFound, Untrusted) as error:
            if self._kinds is not None:
                raise
            stated = Manifest(
                OCI_MANIFEST, None, (), entry.artifact_type, annotations=entry.annotations
            )
            return tuple(
                _attestation(part, place, entry, State.UNREADABLE, str(error))
                for part in parts_of(stated)
            )
        subject = manifest.subject.digest if manifest.subject is not None else None
        is_referrer = place in {Place.REFERRER, Place.FALLBACK}
        if (is_referrer or subject is not None) and subject != about:
            reason = f"its manifest refers to `{subject}`" if subject else "it refers to nothing"
            return tuple(
                _attestation(part, place, entry, State.WRONG_SUBJECT, reason)
                for part in parts_of(manifest)
            )
        return tuple(self._part(part, about, entry, place) for part in parts_of(manifest))

    def _part(self, part: Part, about: Digest, entry: Descriptor, place: Place) -> Attestation:
        # The annotations of a bundle are unsigned, and it is small: always read it.
        named = part.form is not Wrapping.BUNDLE and part.kind != "other"
        skip = self._kinds is not None and named and part.kind not in self._kinds
        if part.blob is None and part.kind != "other":
            return _attestation(part, place, entry, State.UNREADABLE, "it has no content")
        if part.blob is None or not part.is_read or skip:
            unsigned = "not signed" if self._trust is not None and not skip else ""
            return _attestation(part, place, entry, State.PRESENT, unsigned)
        try:
            body = self._read(part, part.blob)
        except (NotFound, Untrusted) as error:
            return _attestation(part, place, entry, State.UNREADABLE, str(error))
        judged = judge(part, body, about, self._members, self._trust, lambda: self._document(about))
        form = "BuildKit statement" if place is Place.INDEX and not judged.signer else judged.format
        return Attestation(
            judged.kind, judged.type, form, (place,), entry, part.blob, judged.state,
            judged.signer, judged.reason,
        )  # fmt: skip

    def _read(self, part: Part, blob: Descriptor) -> bytes:
        what = f"the {part.format} `{blob.digest}` of `{self._root.text}`"
        if blob.size <= _LARGE:
            return self._reader.blob(blob, part.limit, what)
        with self._large:
            return self._reader.blob(blob, part.limit, what)

    def _document(self, digest: Digest) -> bytes:
        root = self._root.document
        if digest == root.descriptor.digest or not isinstance(self._root.parsed, Index):
            return root.body
        found = gather(self._reader, self._root, Depth(manifests=False, configs=False), jobs=1)
        entry = next(part.descriptor for part in found.parts if part.descriptor.digest == digest)
        return self._reader.read(entry, f"the manifest `{digest}` of `{self._root.text}`")

    def _referring(self, subjects: Sequence[Digest]) -> Iterator[tuple[Digest, Descriptor, Place]]:
        """Find what refers to some manifests from outside the index."""
        if not subjects:
            return
        if not self._reader.may_request:
            yield from self._pulled(subjects)
            return
        listed: set[Digest] = set()
        for about, entries in self._by_api(subjects):
            listed.add(about)
            yield from self._usable(about, entries, Place.REFERRER)
        tags = self._reader.tags()

        def look(about: Digest) -> list[tuple[Digest, Descriptor, Place]]:
            found = [] if about in listed else list(self._fallback(about, tags))
            return [*found, *self._cosigned(about, tags)]

        for outcome in parallel(look, () if tags == frozenset() else subjects, jobs=self._jobs):
            if isinstance(outcome.value, ResolverError):
                raise outcome.value
            yield from outcome.value

    def _by_api(
        self, subjects: Sequence[Digest]
    ) -> Iterator[tuple[Digest, tuple[Descriptor, ...]]]:
        """List referrers in parallel; nothing if the first request shows that there is no API."""
        first = self._reader.referrers_by_api(subjects[0])
        if first is None:
            return
        yield subjects[0], first
        for outcome in parallel(self._reader.referrers_by_api, subjects[1:], jobs=self._jobs):
            if isinstance(outcome.value, ResolverError):
                raise outcome.value
            if outcome.value is not None:
                yield outcome.item, outcome.value

    def _usable(
        self, about: Digest, entries: Iterable[Descriptor], place: Place
    ) -> Iterator[tuple[Digest, Descriptor, Place]]:
        for entry in entries:
            if entry.media_type not in MANIFEST_TYPES | {OCI_ARTIFACT}:
                continue
            if not entry.digest.is_verifiable:
                self._reader.warn(left_out(entry, self._root.text))
                continue
            yield about, entry, place

    def _fallback(
        self, about: Digest, tags: frozenset[str] | None
    ) -> Iterator[tuple[Digest, Descriptor, Place]]:
        tag = fallback_tag(about)
        if tags is not None and tag not in tags:
            return
        try:
            document = self._reader.tagged(tag)
            if document is None:
                return
            kind = document.descriptor.media_type
            listed = parse_document(document.body, kind, f"`{tag}` of `{self._root.text}`", kind)
            is_itself = document.descriptor.digest == about
        except (BadDocument, UnsupportedDocument):
            listed, kind, is_itself = None, "", False
        if not isinstance(listed, Index) or kind != OCI_INDEX or is_itself:
            # Some registries answer with the subject itself.
            message = f"the tag `{tag}` is not a list of referrers of `{about}`; skipped"
            self._reader.warn(Warned("referrers", message))
            return
        yield from self._usable(about, listed.manifests, Place.FALLBACK)

    def _cosigned(
        self, about: Digest, tags: frozenset[str] | None
    ) -> Iterator[tuple[Digest, Descriptor, Place]]:
        for suffix in _COSIGN:
            tag = f"{about.algorithm}-{about.hex}.{suffix}"
            document = self._reader.tagged(tag) if tags is None or tag in tags else None
            if document is not None:
                yield from self._usable(about, (document.descriptor,), Place.COSIGN)

    def _pulled(self, subjects: Sequence[Digest]) -> Iterator[tuple[Digest, Descriptor, Place]]:
        known = [one for one in self._attached if one.kind == "referrer"]
        if not known:
            message = (
                f"what refers to `{self._root.text}` was not looked up: it is not in the store"
            )
            if self._kinds is not None:
                self._reader.referrers(subjects[0])
            self._reader.warn(Warned("referrers-not-looked-up", message))
        for one in known:
            if one.about is not None and one.about in subjects:
                yield one.about, one.manifest, Place.COSIGN if one.tag else Place.REFERRER


_REFERENCE_TYPE = "vnd.docker.reference.type"


def _attestation(
    part: Part, place: Place, entry: Descriptor, state: State, reason: str
) -> Attestation:
    return Attestation(
        part.kind, part.type, part.format, (place,), entry, part.blob, state, reason=reason
    )


def attestations(
    context: Context,
    reference: str | Reference,
    platform: PlatformLike = None,
    *,
    trust: TrustOptions | None = None,
) -> Attestations:
    """List what is attached to the index and to each image; with a platform, to that alone."""
    trusted = load_trust(trust or TrustOptions())
    opened = context.open(reference)
    rows = coverage_of(context, opened, platform, trusted)
    root = opened.root
    digest = root.document.descriptor.digest
    return Attestations(
        root.text,
        root.document.descriptor,
        f"{root.prefix}{digest}" if root.prefix else "",
        rows,
        trusted.label if trusted is not None else "",
        tuple(opened.warned),
    )


def coverage_of(
    context: Context,
    opened: Opened,
    platform: PlatformLike = None,
    trust: TrustedSigner | None = None,
    kinds: tuple[str, ...] | None = None,
) -> tuple[Coverage, ...]:
    """Find what is attached to an index and to its images, or to the image for a platform."""
    search = AttestationSearch(
        opened.reader,
        opened.root,
        jobs=context.settings.jobs,
        trust=trust,
        kinds=kinds,
        attached=attached_in_store(context, opened),
    )
    rows = _rows(context, opened.reader, opened.root, platform)
    if kinds is not None:
        rows = rows[:1]
    found = search.find(digest for _platform, digest, _is_index in rows)
    opened.reader.report_warnings()
    return tuple(Coverage(name, about, is_index, found[about]) for name, about, is_index in rows)


def show_attestation(
    context: Context,
    reference: str | Reference,
    kind: str,
    platform: PlatformLike = None,
    *,
    trust: TrustOptions | None = None,
) -> ShownDocument:
    """Read one attestation exactly as stored, without its envelope.

    Without a platform it is that of the index. It must be about the manifest, and with `trust`
    it must be verified.
    """
    if kind not in KINDS:
        raise Usage(f"`{kind[:40]}` is not a kind of attestation", f"choose from {_listed(KINDS)}")
    trusted = load_trust(trust or TrustOptions())
    opened = context.open(reference)
    (row,) = coverage_of(context, opened, platform, trusted, (kind,))
    root = opened.root
    found = row.of(kind)
    if not found:
        hint = f"see what there is: `resolver attestations {root.text}`"
        if row.is_index:
            hint = f"name a platform: `-p linux/amd64`; {hint}"
        raise NotFound(
            f"`{root.text}` has no {kind} for `{row.label}`", hint, code="attestation-not-found"
        )
    best = found[0]
    enough = State.VERIFIED if trusted is not None else State.PRESENT
    if best.blob is None or best.state not in {State.VERIFIED, enough}:
        reason = f": {best.reason}" if best.reason else ""
        raise Negative(
            f"the {kind} of `{row.label}` of `{root.text}` is not shown, because it is "
            f"{'not verified' if best.state is State.PRESENT else best.state.value}{reason}",
            f"see all of them: `resolver attestations {root.text}`",
            code="attestation-not-shown",
        )
    return ShownDocument(_unwrapped(opened.reader, best), best)


def index_sboms(reader: DocumentReader, root: RootDocument, jobs: int) -> tuple[IndexSbom, ...]:
    """Read the SBOMs that are attached to an index, and what they are about."""
    top = root.document.descriptor.digest
    found = AttestationSearch(reader, root, jobs=jobs, kinds=("sbom",)).find((top,))[top]
    sboms = []
    for each in found:
        if each.kind != "sbom" or each.blob is None or each.state is State.UNREADABLE:
            continue
        body = _unwrapped(reader, each)
        subjects = frozenset[str]()
        if each.type.startswith("https://"):
            subjects = read_statement(body, f"the SBOM `{each.blob.digest}`").subjects
        sboms.append(IndexSbom(each.manifest.digest, subjects, architectures_of(body)))
    return tuple(sboms)


def _unwrapped(reader: DocumentReader, found: Attestation) -> bytes:
    assert found.blob is not None  # noqa: S101 - checked by the caller
    what = f"the {found.format} `{found.blob.digest}`"
    body = reader.blob(found.blob, MAX_STATEMENT, what)
    envelope = None
    if found.format == Wrapping.BUNDLE.value:
        envelope = read_bundle(body, what).envelope
    elif found.format == Wrapping.ENVELOPE.value:
        envelope = read_envelope(body, what)
    return body if envelope is None else envelope.payload


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def attached_in_store(context: Context, opened: Opened) -> tuple[Attached, ...]:
    """Return what was pulled with an image, where nothing may be requested."""
    if opened.reader.may_request:
        return ()
    root = opened.root
    pulled = context.store.pulled(root.text)
    same = pulled is not None and pulled.root.digest == root.document.descriptor.digest
    return pulled.attached if pulled is not None and same else ()


def _rows(
    context: Context, reader: DocumentReader, root: RootDocument, platform: PlatformLike
) -> list[tuple[Platform | None, Digest, bool]]:
    """List the manifests to look at: all, or the one for a platform."""
    found = gather_platforms(reader, root, context.table, jobs=context.settings.jobs)
    rows = [(part.platform, part.descriptor.digest, False) for part in found.images]
    if not isinstance(root.parsed, Index):
        rows = [(part.platform, part.descriptor.digest, False) for part in found.parts]
    if platform is None:
        top = (None, root.document.descriptor.digest, True)
        return [top, *rows] if isinstance(root.parsed, Index) else rows
    request = context.platform_request(platform)
    offered = [name for name, _digest, _is_index in rows]
    chosen = select(offered, request.platforms, local=request.local, table=context.table)
    if chosen.index is None:
        names = [str(name) for name in offered if name is not None]
        raise PlatformNotOffered(root.text, str(request.platforms[0]), names)
    return [rows[chosen.index]]
