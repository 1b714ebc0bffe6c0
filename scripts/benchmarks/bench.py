"""Entry point of `scripts/bench`."""

from __future__ import annotations

import argparse

from chunks import chunks
from compare import compare
from copying import COPIES, copy
from fleet import fleet
from pull import PARTS, Distance, pull
from resolve import batches, resolve
from startup import startup
from store import SIZES, store


def main() -> None:  # noqa: PLR0915 - one statement for each option
    """Parse the command line and run one benchmark."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    verbs = parser.add_subparsers(
        dest="verb",
        required=True,
        metavar="startup|resolve|batch|pull|chunks|copy|compare|store|fleet",
    )
    first = verbs.add_parser("startup", help="start, help, an answer from the store")
    second = verbs.add_parser("resolve", help="tags over a network: cold, warm, 100 at once")
    first.add_argument("--runs", type=int, default=30, help="runs of each row (default 30)")
    second.add_argument("--runs", type=int, default=11, help="runs of each row (default 11)")
    second.add_argument(
        "--round-trip", type=float, default=50, metavar="MS", help="milliseconds (default 50)"
    )
    third = verbs.add_parser("pull", help="images with layers: far away, here, again, in part")
    copies = verbs.add_parser("copy", help="images between registries, beside other tools")
    for verb, known in ((third, PARTS), (copies, COPIES)):
        verb.add_argument("--runs", type=int, default=5, help="runs of each row (default 5)")
        verb.add_argument(
            "--round-trip", type=float, default=50, metavar="MS", help="milliseconds (default 50)"
        )
        verb.add_argument(
            "--rate", type=float, default=40, metavar="MB", help="MB/s of a connection (default 40)"
        )
        verb.add_argument(
            "--only",
            choices=list(known),
            action="append",
            help="one part; repeat it (default: all; of pull, all but `many`)",
        )
        verb.add_argument(
            "--huge",
            action="store_true",
            help="also the memory for a layer of 2 GB; needs 5 GB of free space",
        )
    fourth = verbs.add_parser("compare", help="the files of two platforms, against gzip and tar")
    fourth.add_argument("--runs", type=int, default=5, help="runs of each row (default 5)")
    fourth.add_argument(
        "--paths", action="store_true", help="instead, a million paths that differ: minutes a run"
    )
    fifth = verbs.add_parser("batch", help="100 and 1,000 references in one process")
    fifth.add_argument("--runs", type=int, default=5, help="runs of each row (default 5)")
    fifth.add_argument(
        "--round-trip", type=float, default=50, metavar="MS", help="milliseconds (default 50)"
    )
    sixth = verbs.add_parser("store", help="stores of 100 to 10,000 images: ls, du, gc, rm, verify")
    sixth.add_argument("--runs", type=int, default=3, help="runs of each row (default 3)")
    sixth.add_argument(
        "--images",
        type=int,
        action="append",
        metavar="N",
        help="one size; repeat it (default: 100, 1,000, 4,000 and 10,000)",
    )
    seventh = verbs.add_parser("chunks", help="a layer of which an older version is held")
    seventh.add_argument("--runs", type=int, default=3, help="runs of each row (default 3)")
    seventh.add_argument(
        "--round-trip", type=float, default=50, metavar="MS", help="milliseconds (default 50)"
    )
    seventh.add_argument(
        "--link", type=float, default=12.5, metavar="MB", help="MB/s of the link (default 12.5)"
    )
    ninth = verbs.add_parser("fleet", help="a Dask cluster on this machine, and a model beyond it")
    ninth.add_argument(
        "--references", type=int, default=10_000, help="of the first rows (default 10,000)"
    )
    ninth.add_argument("--write", action="store_true", help="update docs/fleet.md and its picture")
    chosen = parser.parse_args()
    if chosen.verb == "startup":
        startup(chosen.runs)
    elif chosen.verb == "resolve":
        resolve(chosen.runs, chosen.round_trip)
    elif chosen.verb == "batch":
        batches(chosen.runs, chosen.round_trip)
    elif chosen.verb == "chunks":
        chunks(chosen.runs, chosen.round_trip, chosen.link)
    elif chosen.verb == "compare":
        compare(chosen.runs, paths=chosen.paths)
    elif chosen.verb == "fleet":
        fleet(chosen.references, write=chosen.write)
    elif chosen.verb == "store":
        store(chosen.runs, chosen.images or list(SIZES))
    elif chosen.verb == "copy":
        distance = Distance(chosen.round_trip, chosen.rate)
        copy(chosen.runs, distance, chosen.only or list(COPIES), huge=chosen.huge)
    else:
        distance = Distance(chosen.round_trip, chosen.rate)
        parts = chosen.only or [part for part in PARTS if part != "many"]
        pull(chosen.runs, distance, parts, huge=chosen.huge)


if __name__ == "__main__":
    main()
