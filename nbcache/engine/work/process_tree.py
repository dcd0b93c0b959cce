"""Processes below a process: finding them, ending them all, and not leaving one behind.

On Linux a worker is a "child subreaper": whatever its tasks start, however often it forks and
forgets, becomes its child again, so "no child left" means "nothing left", and asking costs a
microsecond. Elsewhere the tree is read from `ps`, which misses what was disowned before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
PATIENCE_S = 5.0  # for children that were killed
_READINGS = 3  # one is enough, unless something changes between its two halves
_GENERATIONS = 10  # of processes that came after those before them were killed
LINUX = sys.platform.startswith("linux")


def become_subreaper() -> None:
    """Adopt orphaned descendants (Linux; nothing happens elsewhere)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent ends (Linux; nothing happens elsewhere)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, argument: int) -> None:
    if not LINUX:
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)


def children(pid: int) -> list[int]:
    """Return the living (or not yet reaped) children of a process."""
    if LINUX:
        found: list[int] = []
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            return []
        for thread in threads:
            try:
                with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                    found += map(int, file.read().split())
            except OSError:
                continue
        return found
    return [child for child, parent in _all_processes() if parent == pid]


def descendants(pid: int) -> list[int]:
    """Return all processes below one, parents before their children."""
    if LINUX:
        found = children(pid)
        for each in found:  # grows while it is walked
            found += children(each)
        return found
    below: dict[int, list[int]] = {}
    for child, parent in _all_processes():
        below.setdefault(parent, []).append(child)
    found = list(below.get(pid, ()))
    for each in found:
        found += below.get(each, ())
    return found


def _all_processes() -> list[tuple[int, int]]:
    listed = subprocess.run(
        ["ps", "-axo", "pid=,ppid="], capture_output=True, check=False, text=True
    ).stdout
    pairs = [line.split() for line in listed.splitlines()]
    return [(int(pair[0]), int(pair[1])) for pair in pairs if len(pair) == 2]


def send_signal(pids: list[int], number: int) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end_own_children() -> bool:
    """Kill and reap everything below this process; return whether there was anything alive.

    Something is left only where it cannot be killed, or where a thread that the task left
    (a `multiprocessing.Pool` has one) starts a process for each that ends: it ends with this
    process. Must be called where nobody else waits for children (at the end of an attempt).
    """
    known: set[int] = set()
    generations = 0
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return bool(known)
        if pid:
            continue  # it has ended, by itself or by us
        alive = descendants(os.getpid())
        generations += not known.issuperset(alive)
        known.update(alive)
        send_signal(alive, signal.SIGKILL)
        if generations > _GENERATIONS or time.monotonic() > deadline:
            return True
        time.sleep(0.001)  # waiting for one to end could be for ever: another may be born


def resident_bytes(pid: int, *, exactly: bool = False) -> int:
    """Return the memory of a process and all below it (0 where it cannot be read).

    What forks share counts for each of them, unless `exactly`, which takes milliseconds per GB.
    A process between `vfork` and `exec` is its parent's memory once more, and does not count.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    tree: list[tuple[int, int | None]] = [(pid, None)] if LINUX else []
    for each, parent in tree:  # grows while it is walked
        tree += [(child, each) for child in children(each)]
        pages = _read_pages(each)
        if pages is not None and (parent is None or not _is_in_memory_of(parent, each)):
            _, resident, shared = pages
            own = (resident - (shared if parent is not None else 0)) * page
            total += _proportional_bytes(each, own) if exactly else own
    return total


def _is_in_memory_of(parent: int, child: int) -> bool:
    """Whether a child is still in its parent's memory: then both have the same figures, if they
    are read before one of them goes on. A fork has fewer pages of files."""
    return any(_read_pages(child) == _read_pages(parent) for _ in range(_READINGS))


def _read_pages(pid: int) -> list[int] | None:
    """Return how many pages a process has: in all, resident, of files or shared on purpose."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            return list(map(int, file.read().split()[:3]))
    except (OSError, ValueError):
        return None


def _proportional_bytes(pid: int, otherwise: int) -> int:
    """Return what a process holds, of shared pages its part; `otherwise` where that is not told."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb", buffering=0) as file:
            told = dict(line.split()[:2] for line in file.read().splitlines()[1:])
        return int(told[b"Pss:"]) * 1024
    except (OSError, ValueError, KeyError):
        return otherwise
