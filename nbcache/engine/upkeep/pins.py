"""Pins: runs, processes and tasks whose results no clean-up takes away.

A pin is a row of the log; the last one of a target counts. A task is pinned by its hash, so it
stays pinned in every run and notebook that has it. Pins of runs and tasks are sent to a shared
cache, where each user's last word on a target counts; those of a process, which is a name that
others may use for something else, are about this cache alone. A colleague who has left lets go of
nothing: `let_go` says it for him.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from nbcache.engine.record import history
from nbcache.engine.record.finding import find_task
from nbcache.engine.running.rows import user_name
from nbcache.errors import UsageError, command
from nbcache.model.digest import short
from nbcache.model.row import PinRow, Row
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.remote.sending import send_segment
from nbcache.store.remote.shared import Shared


@dataclass(frozen=True, slots=True)
class Pin:
    """Something pinned: `target` as in the log, `what` as people say it."""

    target: str
    what: str
    reason: str
    at: int
    user: str = ""

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return asdict(self)


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
        verb = "pin" if pinned else "unpin"
        raise UsageError(f"name one thing to {verb}: a TASK, --run RUN or --process NAME")
    target, what = _target(cache, words, run, process)
    if not pinned and target not in {each.target for each in pins(cache)}:
        raise UsageError(f"{what} is not pinned")
    row = _word(target, pinned, reason, user_name())
    cache.log.append([row])
    return Pin(target, what, reason, row.at)


def _word(target: str, pinned: bool, reason: str, user: str) -> PinRow:
    now = time.time_ns() // 1000
    return PinRow(id=new_ulid(), at=now, target=target, pinned=pinned, reason=reason, user=user)


def _target(
    cache: Cache, words: Sequence[str], run: str | None, process: str | None
) -> tuple[str, str]:
    if run:
        found = history.find_run(cache, run)
        return f"run:{found.id}", f"run {found.name}"
    if process:
        history.check_process(process, history.runs(cache))
        return f"process:{process}", f"process {process}"
    task = find_task(cache, words)
    return f"hash:{task.made.hash}", f"task {task.label} ({short(task.made.hash)})"


def pins(cache: Cache) -> list[Pin]:
    """Return what is pinned now, the newest first."""
    names = {run.id: run.name for run in history.runs(cache)}
    return _standing(cache.log.rows(("pin",)), names, each_user=False)


def pins_of_team(shared: Shared) -> list[Pin]:
    """Return what anybody has pinned in a shared cache, the newest first.

    Raises:
        RemoteStoreError, StoreError: it cannot be read.
    """
    shared.mirror.refresh()
    shared.mirror.fetch_all_rows()
    names = {row["run"]: row.get("name") or row["run"] for row in shared.log.records(("run",))}
    return _standing(shared.log.rows(("pin",)), names, each_user=True)


def let_go(
    shared: Shared, user: str, word: str | None, *, run: str | None, here: Cache | None = None
) -> list[Pin]:
    """Let go of what somebody who is not there any more has pinned in a shared cache.

    word: the start of a task's hash; run: the name or id of a run; None: all of that user. here: a
    cache that lets go of them, too, where that user pinned them in it: one's own.

    Raises:
        UsageError: that user has pinned nothing of the kind. RemoteStoreError: it cannot be told.
    """
    known = pins_of_team(shared)
    chosen = [each for each in known if each.user == user and _means(each, word, run)]
    if not chosen:
        users = sorted({each.user for each in known})
        what = f"nothing like {word or run}" if word or run else "nothing"
        raise UsageError(
            f"{user} has pinned {what} in {shared.store.url}; pins there are of: "
            f"{', '.join(users) or 'nobody'}.\n  `{command('pin --team')}` lists them."
        )
    reason = f"let go by {user_name()}"
    rows = [_word(each.target, False, reason, user) for each in chosen]
    send_segment(shared, [row.record() for row in rows])
    if here is not None:
        held = {each.target for each in pins(here) if each.user == user}
        here.log.append([row for row in rows if row.target in held])
    return chosen


def _means(pin: Pin, word: str | None, run: str | None) -> bool:
    kind, _, name = pin.target.partition(":")
    if run is not None:
        return kind == "run" and run in (name, pin.what.removeprefix("run "))
    return word is None or (kind == "hash" and name.rpartition(":")[2].startswith(word))


def _standing(rows: Iterable[Row], names: Mapping[str, str], *, each_user: bool) -> list[Pin]:
    """Return what is pinned by the last word on it, or by each user's last word."""
    last: dict[tuple[str, str], PinRow] = {}
    for row in rows:
        if isinstance(row, PinRow):
            key = row.target, (row.user or "") if each_user else ""
            known = last.get(key)
            if known is None or (row.at, row.id) >= (known.at, known.id):
                last[key] = row
    found = [
        Pin(row.target, _said(row.target, names), row.reason, row.at, row.user or "")
        for row in last.values()
        if row.pinned
    ]
    return sorted(found, key=lambda each: each.at, reverse=True)


def _said(target: str, names: Mapping[str, str]) -> str:
    kind, _, name = target.partition(":")
    if kind == "run":
        return f"run {names.get(name, name)}"
    return f"task {short(name)}" if kind == "hash" else f"{kind} {name}"  # type: ignore[arg-type]
