"""What a cell shows while it waits for a value that comes from a shared cache."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 1.0


@contextmanager
def shown_while_waiting(said: Callable[[], str]) -> Iterator[None]:
    """Say on standard error, in one line that is written again, how far a fetch is.

    Only where it takes longer than a moment, and on the thread that cells run on: what else reads
    belongs to a run, which has a view of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_show, args=(said, over), name="nbcache-fetch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _show(said: Callable[[], str], over: threading.Event) -> None:
    width = 0
    while not over.wait(EVERY_S):
        width = _write(said(), width, "")
    if width:
        _write(said(), width, "\n")


def _write(text: str, width: int, end: str) -> int:
    print(f"\r{text.ljust(width)}", end=end, file=sys.stderr, flush=True)
    return len(text)
