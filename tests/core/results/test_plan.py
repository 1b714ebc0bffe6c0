"""Plans: content divided into held and missing, without losing any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.results.plan import (
    LEAST_RANGE,
    RANGE_SIZE,
    ContentState,
    ImageContent,
    Location,
    Piece,
    PlannedImage,
    Role,
    is_foreign,
    plan_pieces,
)
from resolver.errors import SizeMismatch

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def thing(name: str, size: int = 10, kind: str = LAYER, **more: object) -> Descriptor:
    return Descriptor(kind, Digest.of(name.encode()), size, **more)  # type: ignore[arg-type]  # by name


def image(*contents: tuple[Role, Descriptor], reference: str = "app:1") -> PlannedImage:
    manifest = thing(f"manifest of {contents}", kind=OCI_MANIFEST)
    root = next((each for role, each in contents if role == "index"), manifest)
    held = tuple(ImageContent(descriptor, role) for role, descriptor in contents)
    return PlannedImage(reference, "", root, manifest, None, held, up_to_date=False, warnings=())


def shape(piece: Piece) -> tuple[ContentState, str | None, int, int]:
    return piece.state, piece.place, piece.have, piece.missing


def test_plan_divides_blobs_into_held_and_missing() -> None:
    held, gone = thing("held"), thing("gone", 7)
    made = plan_pieces([image(("layer", held), ("layer", gone))], {held.digest: Location()})

    assert [shape(piece) for piece in made.pieces] == [
        (ContentState.HELD, "", 10, 0),
        (ContentState.MISSING, None, 0, 7),
    ]
    assert (made.bytes_total, made.bytes_held, made.bytes_missing) == (17, 10, 7)
    assert [piece.descriptor for piece in made.missing] == [gone]


def test_partial_blob_counts_as_partly_held() -> None:
    begun = thing("begun", 100)
    made = plan_pieces([image(("layer", begun))], {begun.digest: Location(have=30)})

    assert [shape(piece) for piece in made.pieces] == [(ContentState.PARTIAL, "", 30, 70)]
    assert (made.bytes_held, made.bytes_missing) == (30, 70)


def test_plan_names_the_source_that_holds_a_blob() -> None:
    layer = thing("layer")
    made = plan_pieces([image(("layer", layer))], {layer.digest: Location("oci:images")})

    assert [shape(piece) for piece in made.pieces] == [(ContentState.HELD, "oci:images", 10, 0)]


def test_empty_blob_counts_as_missing() -> None:
    empty = thing("", 0)
    made = plan_pieces([image(("layer", empty))], {})

    assert [piece.state for piece in made.pieces] == [ContentState.MISSING]
    assert (made.bytes_missing, made.requests) == (0, 1)


def test_plan_orders_children_before_parents_across_images() -> None:
    layer, config = thing("layer"), thing("config")
    manifest, index = thing("manifest", kind=OCI_MANIFEST), thing("index", kind=OCI_INDEX)
    other = thing("other layer")
    made = plan_pieces(
        [
            image(("layer", layer), ("config", config), ("manifest", manifest), ("index", index)),
            image(("layer", other), ("config", config), ("index", index)),
        ],
        {},
    )

    assert [piece.role for piece in made.pieces] == [
        "layer",
        "layer",
        "config",
        "manifest",
        "index",
    ]


def test_plan_orders_nested_indexes_before_their_parents() -> None:
    a, b, c, d = (thing(name, kind=OCI_INDEX) for name in "abcd")
    made = plan_pieces([image(("index", b), ("index", d)), image(("index", c), ("index", b))], {})
    same = plan_pieces([image(("index", c), ("index", b)), image(("index", b), ("index", d))], {})

    order = [piece.descriptor for piece in made.pieces]
    assert order.index(c) < order.index(b) < order.index(d)
    assert a not in order
    assert {piece.descriptor for piece in same.pieces} == set(order)


def test_plan_refuses_two_sizes_for_one_digest() -> None:
    with pytest.raises(SizeMismatch):
        plan_pieces([image(("layer", thing("x", 1))), image(("layer", thing("x", 2)))], {})


def test_plan_omits_foreign_layers_unless_requested_or_held() -> None:
    layer = thing("windows", 50, FOREIGN, urls=("https://publisher.example/layer",))
    wanted = [image(("layer", layer))]

    left_out = plan_pieces(wanted, {})
    assert [shape(piece) for piece in left_out.pieces] == [(ContentState.FOREIGN, None, 0, 0)]
    assert (left_out.bytes_total, left_out.requests, len(left_out.foreign)) == (0, 0, 1)
    assert plan_pieces(wanted, {}, foreign=True).bytes_missing == 50
    assert plan_pieces(wanted, {layer.digest: Location()}).bytes_held == 50


def test_layer_with_urls_only_is_not_foreign() -> None:
    assert not is_foreign(thing("x", urls=("https://mirror.example/x",)))
    assert not is_foreign(thing("x", kind=FOREIGN))


def test_plan_counts_requests_per_range_and_none_for_embedded_content() -> None:
    large = thing("large", LEAST_RANGE + 1)
    resumed = thing("resumed", 3 * RANGE_SIZE)
    embedded = thing("{}", 2, data=b"{}")
    made = plan_pieces(
        [image(("layer", large), ("layer", resumed), ("config", embedded))],
        {resumed.digest: Location(have=3 * RANGE_SIZE - LEAST_RANGE)},
    )

    assert made.requests == 2 + 1


def test_plan_counts_shared_blobs_once_and_reports_the_saving() -> None:
    shared, one, two = thing("shared", 100), thing("one", 1), thing("two", 2)
    made = plan_pieces(
        [
            image(("layer", shared), ("layer", one)),
            image(("layer", shared), ("layer", two), reference="app:2"),
        ],
        {},
    )

    assert (made.bytes_total, made.saved) == (103, 100)
    assert [piece.descriptor for piece in made.pieces_of(made.images[1])] == [shared, two]


NAMES = st.sampled_from([f"blob {number}" for number in range(8)])
IMAGES = st.lists(st.lists(NAMES, max_size=6), max_size=4)


@given(
    IMAGES,
    st.dictionaries(NAMES, st.one_of(st.none(), st.integers(0, 200)), max_size=8),
)
def test_plan_contains_every_blob_once_and_all_bytes(
    names: list[list[str]], held: dict[str, int | None]
) -> None:
    images = [
        image(*(("layer", thing(name, 100)) for name in each), reference=str(number))
        for number, each in enumerate(names)
    ]
    made = plan_pieces(
        images, {Digest.of(name.encode()): Location(have=have) for name, have in held.items()}
    )

    wanted = {Digest.of(name.encode()) for each in names for name in each}
    assert {piece.descriptor.digest for piece in made.pieces} == wanted
    assert len(made.pieces) == len(wanted)
    assert made.bytes_held + made.bytes_missing == made.bytes_total == 100 * len(wanted)
    assert all(0 <= piece.have <= 100 for piece in made.pieces)
    assert (not made.missing) == (made.requests == 0)


@given(IMAGES, st.randoms(use_true_random=False))
def test_plan_totals_do_not_depend_on_image_order(names: list[list[str]], chance: object) -> None:
    images = [
        image(*(("layer", thing(name, len(name))) for name in each), reference=str(number))
        for number, each in enumerate(names)
    ]
    shuffled = list(images)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # a Random

    one, other = plan_pieces(images, {}), plan_pieces(shuffled, {})
    assert (one.bytes_total, one.requests, one.saved) == (
        other.bytes_total,
        other.requests,
        other.saved,
    )
