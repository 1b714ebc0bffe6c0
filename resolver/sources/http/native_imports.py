"""Import native code in a thread that lasts."""

from __future__ import annotations

import importlib
import sys
import threading


def import_for_good(name: str) -> None:
    """Import a module in a thread that never ends.

    pyreqwest's allocator belongs to the thread that loads it. When that thread ends, the next new
    thread that asks for memory crashes the process (measured with 0.15.1: import in a pool's
    worker, let the pool end, send from another thread). The main thread lasts; for others a
    keeper is started, which does nothing but exist.
    """
    if name in sys.modules:
        return
    if threading.current_thread() is threading.main_thread():
        importlib.import_module(name)
        return
    keeper = _Keeper(name)
    keeper.start()
    keeper.loaded.wait()
    if keeper.failure is not None:
        raise keeper.failure


class _Keeper(threading.Thread):
    """Loads one module and then waits for the end of the process."""

    def __init__(self, name: str) -> None:
        super().__init__(name=f"keeper of {name}", daemon=True)
        self._module = name
        self.loaded = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            importlib.import_module(self._module)
        except BaseException as error:  # noqa: BLE001 - raised again by who asked
            self.failure = error
        self.loaded.set()
        threading.Event().wait()
