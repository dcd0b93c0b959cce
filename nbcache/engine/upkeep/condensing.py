"""Making a log quicker to read: journals become segments, small segments larger ones.

Of many rows this takes seconds with the interpreter's lock, and memory that a process never gives
back. So a kernel has it done by a process of its own, and goes on; where none can be started, here.

    python -m nbcache.engine.upkeep.condensing ROOT
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nbcache.engine.identity.python_itself import python_flags
from nbcache.store import compact, fold
from nbcache.store.cache import Cache
from nbcache.store.log import Log

SEGMENTS = 16  # more than this are merged,
TIERS = 4.0  # but for those with so many times the rows of all smaller ones
MANY_BYTES = 2 << 20  # of journals: 4,000 rows, half a second of a processor
MANY_ROWS = 50_000  # to merge


def condense(cache: Cache) -> None:
    """Turn into segments what nobody writes any more, this process's own journal included, and
    merge what has become many small ones."""
    cache.log.rotate()
    if cache.read_only is None and _is_much(cache.log) and _is_done_apart(cache.root):
        cache.log.refresh()
    else:
        _condense(cache.log)


def _is_much(log: Log) -> bool:
    if fold.bytes_left(log.root, log.folded()) >= MANY_BYTES:
        return True
    rows = {name: int(each.meta["rows"]) for name, each in log.own_segments().items()}
    return len(rows) > SEGMENTS and sum(map(rows.__getitem__, _alike(rows))) >= MANY_ROWS


def _alike(rows: dict[str, int]) -> list[str]:
    return compact.alike(rows, compact.MAX_ROWS, TIERS)


def _is_done_apart(root: Path) -> bool:
    """Have another process do it, and wait for that; say whether it could. Killed, or left alone by
    a kernel that was, it leaves what readers understand."""
    if not sys.executable:  # an embedded interpreter knows none
        return False
    command = [sys.executable, "-P", *python_flags(), "-m", __name__, str(root)]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt is for the kernel's work
            check=False,
        )
    except OSError:
        return False
    return ended.returncode == 0


def _condense(log: Log) -> None:
    log.fold()
    if len(log.own_segments()) > SEGMENTS:
        log.compact(factor=TIERS)


if __name__ == "__main__":
    _condense(Log(sys.argv[1]))
