"""Go on with a run under its own id, or make a new run of an old one.

A resume is a session more of the same run: what its rows already hold is not run again, the rest
gets new attempts. It begins under the run's lock, so of two at once one goes. Nothing is written
before the pipeline is known to fit together.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Unpack

from nbcache.engine.record import history
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.holding import hold_run
from nbcache.engine.running.beginning import Beginning, Earlier
from nbcache.engine.running.drift import drift
from nbcache.engine.running.prepare import Prepared
from nbcache.engine.running.rows import process_records
from nbcache.engine.running.run import Run
from nbcache.errors import NotRunError, RunError, UsageError, command
from nbcache.model.ids import RunId
from nbcache.model.run_options import RunChoices, RunOptions
from nbcache.model.task import RunStatus
from nbcache.store.cache import Cache
from nbcache.store.claims import Claim

RESUMABLE = frozenset(
    status.value for status in (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.INTERRUPTED)
)
FIRST_ROW_S = 10.0  # how long the first row of whoever was quicker is waited for


class Resumer(Protocol):
    """The part of a session that this needs."""

    namespace: dict[str, object]
    folder: Path
    notebook: str | None
    given: dict[str, str]
    teller: Callable[[str], None]

    @property
    def cache(self) -> Cache: ...
    def look(
        self, targets: Sequence[str], options: RunOptions, parameters: Mapping[str, str]
    ) -> Prepared: ...
    def begin(self, prepared: Prepared, beginning: Beginning, *, detached: bool = False) -> Run: ...
    def start(
        self,
        targets: Sequence[str] = (),
        *,
        parameters: Mapping[str, str] | None = None,
        detached: bool = False,
        retention: str | None = None,
        parent: str | None = None,
        **choices: Unpack[RunChoices],
    ) -> Run: ...


def find_resumable(cache: Cache, word: str | None, notebook: str | None = None) -> RunSummary:
    """Return the run that a resume without or with a word means.

    Without one it is the newest run of this notebook, if it has any, else the newest of all.

    Raises:
        RunError: there is no such run; it has succeeded; it is running (says where).
    """
    run = history.find_run(cache, word, notebook=notebook)
    _check_resumable(cache, run)
    return run


def _check_resumable(cache: Cache, run: RunSummary) -> None:
    if run.status in RESUMABLE:
        return
    if run.status in history.LIVE:
        raise RunError(_is_running(run))
    others = [each for each in history.runs(cache) if each.status in RESUMABLE]
    hint = f"; the newest that can be resumed is {others[0].name}" if others else ""
    raise RunError(
        f"run {run.name} has {run.status}: there is nothing left to resume{hint}.\n"
        f"  A new run: {command('run')}; one with its parameters: {command(f'relaunch {run.name}')}"
    )


def _is_running(run: RunSummary) -> str:
    where = f" (process {run.pid} on {run.host})" if run.pid is not None else ""
    return (
        f"run {run.name} is running{where}: wait for it, or end it with "
        f"{command(f'cancel {run.name}')}, then resume"
    )


def _hold(cache: Cache, run: RunSummary) -> tuple[RunSummary, Claim]:
    """Take a run's lock, then look at the run once more: another may have gone on with it.

    Raises:
        RunError: somebody else drives it.
    """
    hold = hold_run(cache, run.id)
    if hold is not None:
        try:
            run = history.find_run(cache, run.id)
            if run.status in history.LIVE:  # by its rows: it was interrupted, and is held by us now
                run = replace(run, status=RunStatus.INTERRUPTED.value)
            _check_resumable(cache, run)
        except BaseException:
            hold.release()
            raise
        return run, hold
    deadline = time.monotonic() + FIRST_ROW_S
    while run.status not in history.LIVE and time.monotonic() < deadline:
        time.sleep(0.05)  # whoever holds it is taking its snapshot
        run = history.find_run(cache, run.id)
    if run.status in history.LIVE:
        raise RunError(_is_running(run))
    raise RunError(f"run {run.name} is just being resumed by another process on this machine")


def resume(
    session: Resumer,
    word: str | None = None,
    *,
    parameters: Mapping[str, str] | None = None,
    detached: bool = False,
    retention: str | None = None,
    **choices: Unpack[RunChoices],
) -> Run:
    """Go on with a failed, cancelled or interrupted run; returns at once.

    The notebook's code is that of now; targets, options and parameters are those of the run,
    `parameters`, `retention` and `choices` change some. Says first what differs from the run's
    beginning. With no history at all it is a plain run, and says so.

    Raises:
        RunError: there is no such run, it has succeeded, or it is running.
        NbcacheError: as a run.
    """
    cache = session.cache
    if word in (None, "last") and not history.runs(cache):
        session.teller(f"the cache {cache.root} has no runs yet: this is a plain run")
        return session.start(
            parameters=parameters, detached=detached, retention=retention, **choices
        )
    with contextlib.ExitStack() as stack:
        run, hold = _hold(cache, find_resumable(cache, word, session.notebook))
        stack.callback(hold.release)
        options = RunOptions.from_texts(run.options).but(choices)
        values = _parameters(session, run, parameters)
        try:
            prepared = session.look(run.targets, options, values)
        except NotRunError:
            raise NotRunError(
                f"run {run.name}: none of its processes is declared in this kernel.\n  Run the "
                f"notebook's cells first, or in a shell: nbcache resume {run.name}"
            ) from None
        changes = drift(
            cache, run, process_records(prepared), prepared.wiring, values, session.notebook
        )
        session.teller(_announcement(run, changes))
        beginning = Beginning(
            run=RunId(run.id),
            name=run.name,
            options=options,
            targets=run.targets,
            parameters=values,
            parent=run.parent,
            retention=run.retention if retention is None else retention,
            session=run.sessions + 1,
            hold=hold,
            earlier=Earlier.of(cache, run.id),
        )
        begun = session.begin(prepared, beginning, detached=detached)
        stack.pop_all()  # the run lets go of its lock when it ends
    return begun


def _parameters(
    session: Resumer, run: RunSummary, changes: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the run's parameters with changes; each has to be a variable by now."""
    for name, text in run.parameters.items():
        if name not in session.namespace:
            raise UsageError(
                f"run {run.name} had the parameter {name}={text}, and no variable is called {name} "
                "here: run the notebook's cells first"
            )
    return {**run.parameters, **session.given, **(changes or {})}


def _announcement(run: RunSummary, changes: Sequence[str]) -> str:
    head = f"resuming run {run.name} ({run.status}), session {run.sessions + 1}"
    if not changes:
        return f"{head}: code, wiring and parameters are as when it began"
    return "\n".join([f"{head}; since it began:", *(f"  {line}" for line in changes)])


def relaunch(
    session: Resumer,
    word: str | None = None,
    *,
    parameters: Mapping[str, str] | None = None,
    detached: bool = False,
    retention: str | None = None,
    **choices: Unpack[RunChoices],
) -> Run:
    """Start a new run with the targets, options, parameters and retention of an old one; returns at
    once.

    `parameters`, `retention` and `choices` change some. What it was told to run again (`fresh`,
    `from_`) is not taken over.

    Raises:
        RunError: there is no such run. NbcacheError: as a run.
    """
    run = history.find_run(session.cache, word, notebook=session.notebook)
    options = RunOptions.from_texts(run.options).manner()
    return session.start(
        run.targets,
        parameters=_parameters(session, run, parameters),
        detached=detached,
        retention=(run.retention or None) if retention is None else retention,
        parent=run.id,
        **options.but(choices).choices(),
    )
