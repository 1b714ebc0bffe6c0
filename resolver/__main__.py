"""`python -m resolver`, and what the command `resolver` starts."""

from __future__ import annotations

import sys

#: The status of a shell's command that Ctrl-C ended.
_INTERRUPTED = 130


def main() -> None:
    """Answer `--version` without loading anything; leave all else to the command line."""
    if sys.argv[1:] in (["--version"], ["-V"], ["version"]) and _tell_version():
        return
    import gc  # noqa: PLC0415 - after the short way out

    # A command makes many small objects at its start and ends soon: collecting among them is
    # wasted (measured: 8 of 90 ms). Cycles are still found, once there are many more.
    gc.set_threshold(100_000, 50, 50)
    try:
        from resolver.cli.app import main as run  # noqa: PLC0415 - after the short way out
    except KeyboardInterrupt:
        # While the command line is still being loaded; once it runs, it deals with this itself.
        raise SystemExit(_INTERRUPTED) from None
    run()


def _tell_version() -> bool:
    """Print the version; False when that fails, and the command line has to say how."""
    from resolver._version import __version__  # noqa: PLC0415 - nothing else is needed

    try:
        sys.stdout.write(f"resolver {__version__}\n")
        sys.stdout.flush()
    except (OSError, AttributeError):
        return False
    return True


if __name__ == "__main__":
    main()
