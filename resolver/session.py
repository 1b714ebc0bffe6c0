"""Session: the library's front door, with every verb there is."""

from __future__ import annotations

from resolver.verbs.account import HomeVerbs
from resolver.verbs.check import CheckVerbs
from resolver.verbs.compare import CompareVerbs
from resolver.verbs.lint import LintVerbs
from resolver.verbs.lock import LockVerbs
from resolver.verbs.pin import PinVerbs
from resolver.verbs.pull import PullVerbs
from resolver.verbs.resolve import AskVerbs
from resolver.verbs.serve.serve import MirrorVerbs
from resolver.verbs.store import StoreVerbs


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
