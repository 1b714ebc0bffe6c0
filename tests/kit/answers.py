"""Plans, store listings and exports with hostile text."""

from __future__ import annotations

from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import Platform
from resolver.core.results.events import Warned
from resolver.core.results.export import Destination, Exported, ExportedImage
from resolver.core.results.plan import ImageContent, Plan, PlannedImage, Role, plan_pieces
from resolver.core.results.plan import Location as HeldThere
from resolver.core.results.store import (
    Collected,
    Damage,
    DiskUsage,
    ImageListing,
    ImageUsage,
    Item,
    Removed,
    StoredImage,
    Verified,
)

HOSTILE = "a\x1b[2J\u202e\x07\u2028::error::x"
MB = 1_000_000
ARM = Platform("linux", "arm64", "v8")
AMD = Platform("linux", "amd64")


def descriptor(name: str, size: int, media_type: str = OCI_MANIFEST) -> Descriptor:
    return Descriptor(media_type, Digest.of(name.encode()), size)


def content(name: str, size: int, role: Role = "layer", urls: tuple[str, ...] = ()) -> ImageContent:
    kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" if urls else "application/x"
    return ImageContent(Descriptor(kind, Digest.of(name.encode()), size, urls=urls), role)


INDEX = descriptor("index", 4_000, OCI_INDEX)
SHARED = content("shared", 30 * MB)


def planned(
    platform: Platform | None, reference: str = "docker.io/library/app:1.0"
) -> PlannedImage:
    name = str(platform)
    manifest = descriptor(name, 900)
    contents = (
        SHARED,
        content(f"{name} layer", 10 * MB),
        content(f"{name} foreign", 500 * MB, urls=("https://example.com/layer",)),
        content(f"{name} config", 2_000, "config"),
        ImageContent(manifest, "manifest"),
        ImageContent(INDEX, "index"),
    )
    return PlannedImage(
        reference=reference,
        pinned=f"docker.io/library/app@{manifest.digest}",
        root=INDEX,
        manifest=manifest,
        platform=platform,
        contents=contents,
        up_to_date=False,
        warnings=(Warned("fallback-platform", HOSTILE),),
    )


def small_plan(*, held: bool = False) -> Plan:
    image = planned(ARM)
    here = {INDEX.digest: HeldThere(), image.manifest.digest: HeldThere()}
    here[SHARED.descriptor.digest] = HeldThere("oci:./mirror")
    here[image.contents[1].descriptor.digest] = HeldThere(have=4 * MB)
    if held:
        here |= {each.descriptor.digest: HeldThere() for each in image.contents}
    return plan_pieces([image], here)


STORED = StoredImage(
    reference="ghcr.io/somebody/a-rather-long-name-of-a-repository/app:2024-05-01-release",
    image_id=Digest.of(b"config"),
    index=INDEX,
    platforms=("linux/arm64/v8",),
    offered=("linux/amd64", "linux/arm64/v8", "windows/amd64:10.0.20348.2700"),
    created="2024-05-01T12:00:00Z",
    size=123 * MB,
    shared_size=30 * MB,
)
DANGLING = StoredImage(
    reference="",
    image_id=Digest.of(b"old"),
    index=descriptor("old", 900),
    platforms=(),
    offered=(),
    created=HOSTILE,
    size=MB,
    shared_size=0,
    dangling=True,
    missing=(Digest.of(b"gone"),),
)
ITEMS = (
    Item(str(INDEX.digest), 4_000, "index"),
    Item(f"tmp/{HOSTILE}", 17, "temporary"),
    Item(f"partial/sha256-{Digest.of(b'part').hex}", 5 * MB, "partial"),
)

STORE_ANSWERS: dict[str, object] = {
    "plan": small_plan(),
    "plan of two": plan_pieces([planned(ARM), planned(AMD), planned(None)], {}),
    "plan of nothing": small_plan(held=True),
    "listing": ImageListing((STORED, DANGLING)),
    "empty listing": ImageListing(()),
    "stored": STORED,
    "removed": Removed(
        ("docker.io/library/app:1", HOSTILE), (INDEX.digest, Digest.of(b"config")), 4_100
    ),
    "collected": Collected(ITEMS, 5_004_017, 12, 123 * MB, (Digest.of(b"gone"),), dry_run=True),
    "verified": Verified(
        2,
        14,
        123 * MB,
        5_000,
        (
            Damage(str(INDEX.digest), "content", (STORED.reference, HOSTILE)),
            Damage(f"blobs/sha256/{HOSTILE}", "bad-name", (), repaired=True),
        ),
    ),
    "usage": DiskUsage(
        (
            ImageUsage(
                STORED.reference,
                INDEX.digest,
                93 * MB,
                30 * MB,
                (("", 20 * MB), ("docker.io/library/app:1", 10 * MB)),
            ),
            ImageUsage("", Digest.of(b"old"), MB, 0, ()),
        ),
        blobs=130 * MB,
        unused=6 * MB,
        partial=5 * MB,
        temporary=17,
    ),
    "exported": Exported(
        Destination("docker"),
        (
            ExportedImage(
                "docker.io/library/app:1",
                "docker.io/library/app:1",
                "app:1",
                descriptor("made", 400, OCI_INDEX),
                INDEX,
                (ARM, AMD),
            ),
            ExportedImage(
                "docker.io/library/app:2", "docker.io/library/app:2", "", INDEX, INDEX, (None,)
            ),
        ),
        9,
        123 * MB,
        present=MB,
        linked=2 * MB,
        written=3 * MB,
        command=("docker", "load"),
        said=f"Loaded image: app:1\n{HOSTILE}\n",
        warnings=(Warned("new-digest", HOSTILE),),
    ),
}
