"""Pull an image and report the progress of the whole pull in bytes.

Usage: `python pull_progress.py alpine:3.20 linux/arm64`
"""

from __future__ import annotations

import sys

import resolver


class Progress:
    """Adds up the bytes of all pieces; the session calls it for one event at a time."""

    def __init__(self) -> None:
        self.received = 0
        self.warnings: list[str] = []

    def __call__(self, event: resolver.Event) -> None:
        """Receive one event."""
        match event:
            case resolver.Advanced():
                self.received += event.size
                print(f"{event.digest}: {event.done} of {event.total} bytes", file=sys.stderr)
            case resolver.Reused():
                print(f"{event.digest}: already here", file=sys.stderr)
            case resolver.Warned():
                self.warnings.append(event.message)
            case _:
                pass


def main(reference: str, platform: str) -> int:
    """Pull one image into the store."""
    progress = Progress()
    with resolver.Session(observe=progress) as session:
        plan = session.plan(reference, platform)
        print(f"{plan.bytes_missing} of {plan.bytes_total} bytes to fetch")
        session.pull(plan)
    print(f"{progress.received} bytes received")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
