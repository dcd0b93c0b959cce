"""Pins: runs, processes and tasks whose results no clean-up takes away.

A pin is a row of the log; the last one of a target counts. A task is pinned by its hash, so it
stays pinned in every run and notebook that has it. Pins of runs and tasks are sent to a shared
cache, where each user's last word on a target counts; those of a process, which is a name that
others may use for something else, are about this cache alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from nbcache.engine.record import history
from nbcache.engine.record.finding import find_task
from nbcache.engine.running.rows import user_name
from nbcache.errors import UsageError
from nbcache.model.digest import short
from nbcache.model.row import PinRow
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid


@dataclass(frozen=True, slots=True)
class Pin:
    """Something pinned: `target` as in the log, `what` as people say it."""

    target: str
    what: str
    reason: str
    at: int

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {"target": self.target, "what": self.what, "reason": self.reason, "at": self.at}


def pin(
    cache: Cache,
    words: Sequence[str] = (),
    *,
    run: str | None = None,
    process: str | None = None,
    pinned: bool = True,
    reason: str = "",
) -> Pin:
    """Pin (or with `pinned` False no longer) one thing: a task, a run or a process.

    words: a task as in `find_task`; run: as in `find_run`.

    Raises:
        UsageError: not exactly one thing is named, there is none of that name, or it is not
            pinned. RunError: there is no such run.
    """
    if sum(map(bool, (words, run, process))) != 1:
        raise UsageError("name one thing to pin: a TASK, --run RUN or --process NAME")
    target, what = _target(cache, words, run, process)
    if not pinned and target not in {each.target for each in pins(cache)}:
        raise UsageError(f"{what} is not pinned")
    now = time.time_ns() // 1000
    row = PinRow(
        id=new_ulid(), at=now, target=target, pinned=pinned, reason=reason, user=user_name()
    )
    cache.log.append([row])
    return Pin(target, what, reason, now)


def _target(
    cache: Cache, words: Sequence[str], run: str | None, process: str | None
) -> tuple[str, str]:
    if run:
        found = history.find_run(cache, run)
        return f"run:{found.id}", f"run {found.name}"
    if process:
        known = {each.name for run_ in history.runs(cache) for each in run_.processes}
        if process not in known:
            raise UsageError(history.unknown("process", process, sorted(known)))
        return f"process:{process}", f"process {process}"
    task = find_task(cache, words)
    return f"hash:{task.made.hash}", f"task {task.label} ({short(task.made.hash)})"


def pins(cache: Cache) -> list[Pin]:
    """Return what is pinned now, the newest first."""
    last: dict[str, PinRow] = {}
    for row in cache.log.rows(("pin",)):
        if isinstance(row, PinRow):
            known = last.get(row.target)
            if known is None or (row.at, row.id) >= (known.at, known.id):
                last[row.target] = row
    names = {run.id: run.name for run in history.runs(cache)}
    found = [
        Pin(row.target, _said(row.target, names), row.reason, row.at)
        for row in last.values()
        if row.pinned
    ]
    return sorted(found, key=lambda each: each.at, reverse=True)


def _said(target: str, names: dict[str, str]) -> str:
    kind, _, name = target.partition(":")
    if kind == "run":
        return f"run {names.get(name, name)}"
    return f"task {short(name)}" if kind == "hash" else f"{kind} {name}"  # type: ignore[arg-type]
