"""Name records: what references resolved to, and what was pulled under them.

They are kept apart: a resolve that finds a moved tag must not change a pulled name.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Generic, TypeVar

from resolver.core.oci.descriptor import PLATFORM_NAMES, Descriptor, read_platform
from resolver.core.oci.manifest import Attached
from resolver.core.oci.reference import is_tag
from resolver.core.parse.json import Fields, read_object
from resolver.core.results.events import Warned
from resolver.errors import Untrusted
from resolver.store.files import aside, locked, temporary
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from resolver.core.oci.manifest import AttachedKind
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Observer
    from resolver.core.results.pull import PulledImage, PulledName
    from resolver.store.files import StoreFolder, Temporary
    from resolver.store.folder import Home


#: Largest file, in bytes; a record with a thousand platforms has some 100 KiB.
MAX_NAME = 1_048_576
#: Held while a name is changed, so that concurrent additions are not lost.
_LOCK = "names.lock"
#: Records that are synced together, each an open file. Measured on ext4: 400 in 0.06 s instead of
#: 0.6 s.
GROUP = 32
_FILE = pattern(r"[0-9a-f]{64}\.json")
_VISIBLE = pattern(r"[!-~]+")
_ROOT_MEMBERS = frozenset({"mediaType", "digest", "size"})

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, eq=False)
class BadName:
    """A name file that cannot be used; the content it needs is unknown."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Form(Generic[Record]):
    """Format of the name files in one folder.

    `read`: parses JSON members; the text names the file in errors. Raises `Untrusted`.
    """

    folder: str
    reference: Callable[[Record], str]
    write: Callable[[Record], Mapping[str, object]]
    read: Callable[[dict[str, object], str], Record]


class Records(Generic[Record]):
    """A folder of name files. Readers need no lock, since a rename is atomic.

    Every method raises `StoreFault` where the folder cannot be read or written.
    """

    def __init__(self, home: Home, form: Form[Record], observe: Observer) -> None:
        self._home = home
        self._form = form
        self._observe = observe

    def put(
        self,
        record: Record,
        *,
        merge: Callable[[Record | None, Record], Record] | None = None,
        check: Callable[[StoreFolder, Record], None] | None = None,
        seconds: float | None = None,
    ) -> Record:
        """Write a record durably and return it; see `put_all`."""
        return self.put_all((record,), merge=merge, check=check, seconds=seconds)[0]

    def put_all(
        self,
        records: Sequence[Record],
        *,
        merge: Callable[[Record | None, Record], Record] | None = None,
        check: Callable[[StoreFolder, Record], None] | None = None,
        seconds: float | None = None,
        now: bool = False,
    ) -> list[Record]:
        """Write records of different references durably, many with few syncs; return them.

        `merge`: combines the present record, if any, with the new one. `check`: raises if the
        record must not be written, and ends the work; called under the store's lock. `now`: sync
        the folder also in a batch.
        """
        done: list[Record] = []
        for at in range(0, len(records), GROUP):
            with self._home.writing(seconds=seconds) as root:
                checked: list[Record] = []
                try:
                    for record in records[at : at + GROUP]:
                        if check is not None:
                            check(root, record)
                        checked.append(record)
                finally:
                    done += self._put_checked(root, checked, merge)
                    if now:
                        self._home.sync_renames(root, self._form.folder)
        return done

    def _put_checked(
        self,
        root: StoreFolder,
        records: list[Record],
        merge: Callable[[Record | None, Record], Record] | None,
    ) -> list[Record]:
        if merge is None:
            self._put(root, records)
            return records
        with self._changing(root):
            with root.need(self._form.folder) as folder:
                known = [
                    self._entry(folder, file_name(self._form.reference(record)))
                    for record in records
                ]
            written = [
                merge(None if isinstance(one, BadName) else one, record)
                for one, record in zip(known, records, strict=True)
            ]
            self._put(root, written)
        return written

    def get(self, reference: str) -> Record | None:
        """Return the record of a reference; warn about an unusable file and return None."""
        root = self._home.open()
        if root is None:
            return None
        with root:
            entry = self.read_in(root, file_name(reference))
        if isinstance(entry, BadName):
            self._warn(entry)
            return None
        return entry

    def entries(self) -> Iterator[Record | BadName]:
        """Iterate over all records, including unusable ones; other files are ignored."""
        root = self._home.open_store()
        if root is None:
            return
        with root:
            yield from self.entries_in(root)

    def entries_in(self, root: StoreFolder) -> Iterator[Record | BadName]:
        """Iterate over all records of an open store."""
        folder = root.enter(self._form.folder)
        if folder is None:
            return
        with folder:
            for name in folder.entries():
                entry = self._entry(folder, name) if _FILE.fullmatch(name) else None
                if entry is not None:
                    yield entry

    def read_in(self, root: StoreFolder, name: str) -> Record | BadName | None:
        """Read one file of an open store by its name; None if absent."""
        folder = root.enter(self._form.folder)
        if folder is None:
            return None
        with folder:
            return self._entry(folder, name)

    def look_in(self, root: StoreFolder, name: str) -> os.stat_result | None:
        """Return the status of one file of an open store; None if absent."""
        folder = root.enter(self._form.folder)
        if folder is None:
            return None
        with folder:
            return folder.look(name)

    def files_in(self, root: StoreFolder) -> dict[str, os.stat_result]:
        """Return the status of all name files of an open store."""
        from resolver.store.reachable import stats_in  # noqa: PLC0415 - a resolve needs none

        found = stats_in(root, self._form.folder)
        return {name: status for name, status in found.items() if _FILE.fullmatch(name)}

    def usable(self) -> Iterator[Record]:
        """Iterate over the usable records; warn about the others."""
        for entry in self.entries():
            if isinstance(entry, BadName):
                self._warn(entry)
            else:
                yield entry

    def drop(self, reference: str) -> bool:
        """Remove a record but not its content; False if there was none."""
        # Do not create a store only to remove a name from it.
        if not self._home.exists():
            return False
        with self._home.writing() as root:
            return self.drop_in(root, (reference,)) > 0

    def drop_in(self, root: StoreFolder, references: Iterable[str]) -> int:
        """Remove records durably from a store locked for writing; return their number."""
        with root.need(self._form.folder) as folder:
            count = sum([folder.remove(file_name(reference)) for reference in references])
            if count and self._home.sync:
                folder.sync()
            return count

    def put_in(self, root: StoreFolder, record: Record) -> None:
        """Write a record durably to a store locked for writing."""
        self._put(root, (record,))

    def put_aside(self, bad: BadName) -> bool:
        """Move an unusable file to `tmp`; False if it is absent by now."""
        name = bad.path.rpartition("/")[2]
        with (
            self._home.writing() as root,
            root.need("tmp") as tmp,
            root.need(self._form.folder) as folder,
        ):
            if not isinstance(self._entry(folder, name), BadName):
                return False
            folder.move(name, tmp, aside())
            return True

    def _changing(self, root: StoreFolder) -> AbstractContextManager[None]:
        if not self._home.lock:
            return nullcontext()
        return locked(root, exclusive=True, patience=self._home.patience, name=_LOCK)

    def _put(self, root: StoreFolder, records: Sequence[Record]) -> None:
        self._home.sync_renames(root, "blobs")
        with (
            root.need("tmp") as tmp,
            root.need(self._form.folder) as folder,
            ExitStack() as started,
        ):
            files: list[tuple[str, Temporary]] = []
            for record in records:
                text = json.dumps(self._form.write(record), sort_keys=True, indent=2) + "\n"
                file = started.enter_context(temporary(tmp, sync=self._home.sync))
                file.write(text.encode())
                if len(records) > 1:
                    file.start_sync()
                files.append((file_name(self._form.reference(record)), file))
            for name, file in files:
                file.publish(folder, name, mode=0o600, sync_folder=False)
            self._home.sync_folder(folder, self._form.folder)

    def _entry(self, folder: StoreFolder, name: str) -> Record | BadName | None:
        path = folder.where(name)
        status = folder.look(name)
        file = folder.open(name, status) if status is not None else None
        if file is None:
            return BadName(path, "it is not a regular file") if status is not None else None
        with file:
            if file.status.st_size > MAX_NAME:
                return BadName(path, f"it has more than {MAX_NAME} bytes")
            body = b"".join(file.chunks())
        try:
            what = f"`{path}`"
            record = self._form.read(read_object(body, what), what)
        except Untrusted as error:
            return BadName(path, str(error))
        if file_name(self._form.reference(record)) != name:
            return BadName(path, "its reference does not match its file name")
        return record

    def _warn(self, bad: BadName) -> None:
        self._observe(
            Warned("store-bad-name", f"`{bad.path}` cannot be used and is skipped: {bad.reason}")
        )


def file_name(reference: str) -> str:
    """Return the file name for a reference (docs/store-and-reliability.md, "File names")."""
    return hashlib.sha256(reference.encode("utf-8", "surrogatepass")).hexdigest() + ".json"


def write_descriptor(descriptor: Descriptor) -> dict[str, object]:
    """Return the JSON members that identify content."""
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def read_identity(fields: Fields, name: str) -> Descriptor:
    """Parse the output of `write_descriptor`."""
    fields.required(name)
    root = fields.child(name, _ROOT_MEMBERS)
    if root is None:
        raise fields.bad(name, "required, but null")
    return Descriptor(root.required_text("mediaType"), root.digest("digest"), root.integer("size"))


#: Format of a file in `seen`, and of one in `names`.
SCHEMA = 1
_SEEN_MEMBERS = frozenset({"schema", "reference", "root"})
_PULLED_MEMBERS = _SEEN_MEMBERS | {"images", "pulledAt", "attached", "expires"}
_IMAGE_MEMBERS = frozenset({"platform", "manifest"})
_ATTACHED_MEMBERS = frozenset({"kind", "about", "tag", "manifest"})
_ATTACHED_KINDS: dict[str, AttachedKind] = {
    "attestation": "attestation",
    "artifact": "artifact",
    "referrer": "referrer",
}


@dataclass(frozen=True, slots=True)
class NameRecord:
    """What a reference pointed at when it was last resolved; the media type is the verified one."""

    reference: str
    root: Descriptor


def merged(known: PulledName | None, new: PulledName) -> PulledName:
    """Merge an earlier pull with a new one; images of another root are dropped.

    A name of the same root expires when the later of the two does.
    """
    from resolver.core.results.pull import PulledName  # noqa: PLC0415 - not for what was seen

    expires = new.expires
    images = {image.manifest.digest: image for image in new.images}
    attached = {each.manifest.digest: each for each in new.attached}
    if known is not None and known.root.digest == new.root.digest:
        images = {image.manifest.digest: image for image in known.images} | images
        attached = {each.manifest.digest: each for each in known.attached} | attached
        expires = max(known.expires, expires) if known.expires and expires else 0
    in_order = sorted(images.values(), key=lambda i: (str(i.platform or ""), i.manifest.digest))
    beside = sorted(attached.values(), key=lambda each: each.manifest.digest)
    return PulledName(
        new.reference, new.root, tuple(in_order), new.pulled_at, tuple(beside), expires
    )


def _write_seen(record: NameRecord) -> Mapping[str, object]:
    root = write_descriptor(record.root)
    return {"schema": SCHEMA, "reference": record.reference, "root": root}


def _read_seen(members: dict[str, object], what: str) -> NameRecord:
    fields = _known(members, what, _SEEN_MEMBERS)
    return NameRecord(fields.required_text("reference"), read_identity(fields, "root"))


def _write_pulled(record: PulledName) -> Mapping[str, object]:
    images = [
        {"platform": _write_platform(i.platform), "manifest": write_descriptor(i.manifest)}
        for i in record.images
    ]
    written: dict[str, object] = {
        "schema": SCHEMA,
        "reference": record.reference,
        "root": write_descriptor(record.root),
        "images": images,
        "pulledAt": record.pulled_at,
    }
    if record.attached:
        written["attached"] = [_write_attached(each) for each in record.attached]
    if record.expires:
        written["expires"] = record.expires
    return written


def _read_pulled(members: dict[str, object], what: str) -> PulledName:
    from resolver.core.results.pull import PulledName  # noqa: PLC0415 - not for what was seen

    fields = _known(members, what, _PULLED_MEMBERS)
    return PulledName(
        fields.required_text("reference"),
        read_identity(fields, "root"),
        tuple(_read_image(child) for child in fields.children("images", _IMAGE_MEMBERS)),
        fields.integer("pulledAt"),
        tuple(_read_attached(child) for child in fields.children("attached", _ATTACHED_MEMBERS)),
        fields.integer("expires") if fields.has("expires") else 0,
    )


def _write_attached(attached: Attached) -> dict[str, object]:
    written: dict[str, object] = {
        "kind": attached.kind,
        "manifest": write_descriptor(attached.manifest),
    }
    if attached.about is not None:
        written["about"] = str(attached.about)
    if attached.tag:
        written["tag"] = attached.tag
    return written


def _read_attached(fields: Fields) -> Attached:
    kind = _ATTACHED_KINDS.get(fields.required_text("kind"))
    if kind is None:
        raise fields.bad("kind", f"it must be one of {', '.join(_ATTACHED_KINDS)}")
    about = fields.digest("about") if fields.has("about") else None
    tag = fields.text("tag") or ""
    if tag and not is_tag(tag):
        raise fields.bad("tag", "it is not a tag")
    return Attached(kind, read_identity(fields, "manifest"), about, tag)


def _read_image(fields: Fields) -> PulledImage:
    from resolver.core.results.pull import PulledImage  # noqa: PLC0415 - not for what was seen

    platform = fields.child("platform", PLATFORM_NAMES)
    return PulledImage(
        None if platform is None else read_platform(platform), read_identity(fields, "manifest")
    )


def _write_platform(platform: Platform | None) -> dict[str, object] | None:
    if platform is None:
        return None
    return {
        "os": platform.os,
        "architecture": platform.architecture,
        "variant": platform.variant,
        "os.version": platform.os_version,
        "os.features": list(platform.os_features),
    }


def _known(members: dict[str, object], what: str, known: frozenset[str]) -> Fields:
    fields = Fields.of(members, what, "", known)
    if fields.integer("schema") != SCHEMA:
        raise fields.bad("schema", f"it must be {SCHEMA}")
    return fields


#: Characters of the path and query of an upload session; some carry a state of 2 KiB.
_MAX_SESSION = 16_384


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An upload session of a registry that a later run may continue.

    Attributes:
        reference: `registry/repository@digest`, with the digest of the blob.
        target: path and query of the session at the registry; it may be a secret of this user.

    """

    reference: str
    target: str


def _write_upload(record: UploadRecord) -> Mapping[str, object]:
    return {"schema": SCHEMA, "reference": record.reference, "target": record.target}


def _read_upload(members: dict[str, object], what: str) -> UploadRecord:
    fields = _known(members, what, frozenset({"schema", "reference", "target"}))
    target = fields.required_text("target")
    if not target.startswith("/") or len(target) > _MAX_SESSION or not _VISIBLE.fullmatch(target):
        raise fields.bad("target", "it is not the path of an upload session")
    return UploadRecord(fields.required_text("reference"), target)


PUSHES: Form[UploadRecord] = Form(
    "pushes", lambda record: record.reference, _write_upload, _read_upload
)
SEEN: Form[NameRecord] = Form("seen", lambda record: record.reference, _write_seen, _read_seen)
PULLED: Form[PulledName] = Form(
    "names", lambda record: record.reference, _write_pulled, _read_pulled
)
