"""Session: the library's front door, with every verb there is."""

from __future__ import annotations

from resolver.session_ask import AskVerbs
from resolver.session_check import CheckVerbs
from resolver.session_compare import CompareVerbs
from resolver.session_home import HomeVerbs
from resolver.session_lint import LintVerbs
from resolver.session_lock import LockVerbs
from resolver.session_mirror import MirrorVerbs
from resolver.session_pin import PinVerbs
from resolver.session_pull import PullVerbs
from resolver.session_store import StoreVerbs


class Session(
    AskVerbs,
    CheckVerbs,
    CompareVerbs,
    PullVerbs,
    LintVerbs,
    LockVerbs,
    StoreVerbs,
    HomeVerbs,
    PinVerbs,
    MirrorVerbs,
):
    """Answers questions about images, and keeps them; one client, one store, one platform table.

    Safe to share between threads. Close it, or use it in a `with` block, to give connections back.

    Args:
        store: folder of the local store; by default the user's cache folder.
        offline: answer from the store alone.
        flags: everything else that a command line can say.
        environment: read instead of `os.environ`, for tests and embedders.
        observe: told of warnings, notes and progress while work goes on.

    """
