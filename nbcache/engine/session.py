"""The nbcache of one kernel: which cache, which names, what runs.

Magics, the command line and plain Python are fronts of this. It declares, plans, starts and reads;
it shows nothing (`waiter` is how a front shows a run that a read has started,
`teller` how it says a line about one).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Unpack
from weakref import WeakKeyDictionary

from nbcache.engine.cache_in_use import CacheInUse
from nbcache.engine.declared.factories import Factories
from nbcache.engine.declared.names import Names
from nbcache.engine.declared.parameters import given
from nbcache.engine.declared.process import NamedChannel, Process, Readable, complete_decl
from nbcache.engine.declared.required import check_given
from nbcache.engine.declared.stubs import check_stub
from nbcache.engine.describe import Allowance, card_of, channel_view_of, place_plans
from nbcache.engine.identity.value_code import know_classes_of
from nbcache.engine.opening import open_run
from nbcache.engine.performing import Performer
from nbcache.engine.reading import read
from nbcache.engine.record.results import Results
from nbcache.engine.running import resuming
from nbcache.engine.running.beginning import Beginning
from nbcache.engine.running.decision import Place
from nbcache.engine.running.dry import dry_run
from nbcache.engine.running.loop import engine_loop
from nbcache.engine.running.prepare import Prepared, check_place, detach, prepare, prepare_place
from nbcache.engine.running.reasons import Reasons
from nbcache.engine.running.restoring import RestoredRun, restore
from nbcache.engine.running.run import Run
from nbcache.engine.tier import AGAIN_S, Tier
from nbcache.engine.trial import TryResult, try_task
from nbcache.engine.trusting import Trusting, trust
from nbcache.engine.upkeep.cleaning import check_retention
from nbcache.engine.work.shown import chunks_of
from nbcache.errors import (
    ChannelError,
    MissingParameterError,
    NbcacheError,
    NotRunError,
    UsageError,
    WiringError,
    command,
)
from nbcache.model.process import ChannelDecl, ProcessDecl
from nbcache.model.run_options import Changes, RunChoices, RunOptions
from nbcache.model.value import Stored
from nbcache.model.view import CardView, ChannelView, PlacePlan, ShownChunk
from nbcache.store.cache import Cache
from nbcache.store.remote.fetching import Showing

DEFAULT_CACHE = ".nbcache"


class Session:
    """One kernel's pipeline over one cache. `namespace` is where the notebook's names live."""

    def __init__(self, namespace: dict[str, object], folder: Path) -> None:
        self.namespace, self.folder = namespace, folder
        know_classes_of(namespace, folder)
        self.notebook: str | None = os.environ.get("JPY_SESSION_NAME")
        self.given: dict[str, str] = {}  # parameters that the whole notebook was started with
        self._allowance = Allowance()  # for cards
        self.is_dry = False  # whether what is cached may be read, and nothing may run
        self.waiter: Callable[[Run], None] = _wait
        self.retention = ""  # of the runs to come
        self.teller: Callable[[str], None] = _tell
        self.showing: Showing = lambda said: (
            contextlib.nullcontext()
        )  # while a cell waits for a value
        self.manner = RunOptions()  # of runs, plans and reads of which nothing else is said
        self.cells: Callable[[], Sequence[str]] = list
        self.last_run: Run | None = None
        self._noted: set[str] = set()  # what is said with the first run that it holds for
        self.names = Names(namespace, Factories(lambda: self.folder))
        self._held = CacheInUse(folder / DEFAULT_CACHE, self._note, self._show)
        self.performer = Performer(self, lambda: self._held.tidy())

    # ------------------------------------------------------------------ the cache

    def use(self, place: str, *, retention: str = "") -> None:
        """Keep results in this folder from now on; it is made at the first need. A URL is that of
        a shared cache, behind the folder that is used without one.

        retention: how long the results of the runs to come are kept, see `plan.retention`.

        Raises:
            UsageError: the retention is no such policy, or a run is going.
            RemoteStoreError, CacheFormatError: the shared cache cannot be opened; nothing changes.
        """
        check_retention(retention)
        self._check_no_run()
        before = self._held
        if "://" in place:
            new = CacheInUse(self.folder / DEFAULT_CACHE, self._note, self._show)
            try:
                new.share(place, read_only=False, claim="auto")
            except BaseException:
                new.close()
                raise
        else:
            path = Path(os.path.abspath(self.folder / os.path.expanduser(place)))
            new = CacheInUse(path, self._note, self._show)
        try:
            self.performer.close()
        finally:
            before.close()
            self._held, self.retention = new, retention

    @property
    def cache(self) -> Cache:
        """The cache, opened (and made) at first need."""
        return self._held.cache

    @property
    def place(self) -> Path:
        """Where results are kept."""
        return self._held.place

    def share(self, url: str, *, read_only: bool = False, claim: str = "auto") -> Tier | None:
        """Put a shared cache behind this one, from now on and for all who open it.

        None: it is behind it already, and does not answer now, which is told.

        Raises:
            UsageError: a run is going.
            RemoteStoreError, CacheFormatError: it cannot be opened; nothing is changed.
        """
        self._check_no_run()
        if "://" not in url:
            url = os.path.join(self.folder, os.path.expanduser(url))
        if self.is_dry:
            return self._held.look_at(url, read_only=read_only)
        return self._held.share(url, read_only=read_only, claim=claim)

    def unshare(self) -> None:
        """Share no more; what came from there stays.

        Raises:
            UsageError: a run is going.
        """
        self._check_no_run()
        self._held.unshare()

    def tier(self) -> Tier | None:
        """Return the shared cache behind this one, opened at first need; None: there is none."""
        return self._held.tier()

    def close(self) -> None:
        """End the workers and let go of the cache; both are there again at the next need.

        Raises:
            UsageError: a run is going.
        """
        self._check_no_run()
        try:
            self.performer.close()
        finally:
            self._held.close()

    def _note(self, text: str) -> None:
        """Say a line in the report of the run that goes on, or else at once."""
        run = self.last_run
        if run is not None and not run.done:
            run.notes.append(text)
        else:
            self.teller(text)

    def _show(self, said: Callable[[], str]) -> contextlib.AbstractContextManager[None]:
        return self.showing(said)

    def _check_no_run(self) -> None:
        for run in self.performer.going:
            raise UsageError(
                f"run {run.name} is still going: wait for it or {command('cancel')} first"
            )

    def _leave_deleted_cache(self) -> None:
        """Begin anew where the cache folder was deleted, or moved, while this kernel lives."""
        if not self.performer.going and self._held.is_deleted:
            with contextlib.suppress(NbcacheError, OSError):
                self.close()

    # ------------------------------------------------------------------ declaring

    def declare(self, decl: ProcessDecl) -> Process:
        """Check a declaration and bind its name; on an error the earlier binding stays.

        Raises:
            DeclarationError: what is wrong, with line and column.
        """
        complete, facts = complete_decl(decl, self.namespace)
        check_stub(complete, self.namespace)
        process = Process(complete, facts, self.namespace, self, self.names.replacing(decl.name))
        with self.names.bound(decl.name, process):
            pipeline = self.names.pipeline()
            try:
                graph = pipeline.compile([decl.name])
            except (WiringError, ChannelError):
                pass  # its channels may come with a later cell; the card says what is missing
            else:
                check_place(graph.nodes[graph.places[decl.name]], pipeline)
        return process

    def declare_channel(self, decl: ChannelDecl) -> NamedChannel:
        """Bind a channel's expression to its name after seeing that it evaluates.

        Raises:
            DeclarationError, ChannelError, WiringError: what is wrong with it now.
        """
        channel = NamedChannel(decl, self.namespace, self, self.names.replacing(decl.name))
        with self.names.bound(decl.name, channel):
            self.channel_view(channel)
        return channel

    # ------------------------------------------------------------------ looking

    def prepare(
        self,
        targets: Sequence[str] | None = None,
        options: RunOptions | None = None,
        *,
        no_cache: bool = False,
    ) -> Prepared:
        """Take a snapshot of the pipeline, or of what `targets` need."""
        self._leave_deleted_cache()
        try:
            return prepare(
                self.names.pipeline(),
                self.cache,
                self.folder,
                only=targets or None,
                options=options or self.manner,
                no_cache=no_cache,
            )
        except MissingParameterError:
            check_given(self.namespace)  # what was used knows what it is for, but not its name
            raise

    def prepare_place(self, name: str) -> Place:
        """Take a snapshot of one process, without those above it."""
        return prepare_place(self.names.pipeline(), self.cache, self.folder, name)

    def plan(
        self,
        targets: Sequence[str] = (),
        options: RunOptions | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
    ) -> tuple[PlacePlan, ...]:
        """Say what a run would do now, without running anything; `parameters` as for a run."""
        tier = self.tier()
        if tier is not None:
            tier.shared.mirror.refresh(older_than_s=AGAIN_S)
        with given(self.namespace, parameters or {}, self.cells()):
            prepared = self.prepare(targets, options)
        found = dry_run(prepared)
        return place_plans(prepared, found, self.reasons())

    def trust(self, processes: Sequence[str], reason: str | None) -> list[Trusting]:
        """Take results of before an edit for those of after it; `trusting.trust` says how.

        reason: why the edit changes no meaning; None: only say what would be taken.
        """
        return trust(self, processes, reason)

    def card(self, process: Process, *, declared: bool = False) -> CardView:
        """Describe a process; counts its tasks if that does not take long.

        declared: it was just now, perhaps in one of many cells that are executed one by one.
        """
        return card_of(process, self, self._allowance if declared else None)

    def channel_view(self, channel: NamedChannel) -> ChannelView:
        """Describe a channel with its first items, as far as no process has to run for them."""
        return channel_view_of(channel, self)

    def reasons(self, before: str | None = None) -> Reasons:
        """Return who says why tasks run; compares with the runs that the log holds now.

        before: the run that asks; a run of this kernel that is going is no earlier one either.
        """
        going = self.last_run
        if before is None and going is not None and not going.done:
            before = going.id
        return Reasons(self.cache, self.notebook, before=before)

    # ------------------------------------------------------------------ running

    def start(
        self,
        targets: Sequence[str] = (),
        *,
        no_cache: bool = False,
        parameters: Mapping[str, str] | None = None,
        detached: bool = False,
        retention: str | None = None,
        parent: str | None = None,
        **choices: Unpack[RunChoices],
    ) -> Run:
        """Start a run of the pipeline, or of `targets` and what they need; returns at once.

        What bodies capture is taken now: later edits count for the next run. `parameters` are
        names with Python expressions, which hold for this run. `detached`: the caller will go on
        meanwhile, so that mutable values are copied now. `retention`: how long its results are
        kept (`plan.retention`); None as `self.retention` says. `parent` is the run that this one
        was made of. `choices` are those of `RunOptions`.

        Raises:
            NbcacheError: the pipeline does not fit together, or nothing is declared; NotRunError:
                the session is dry, and something would have to run.
        """
        check_retention(retention or "")
        options = self.manner.but(choices)
        prepared = self.look(targets, options, parameters or {}, no_cache=no_cache)
        if self.is_dry and not dry_run(prepared).is_complete():
            raise _nothing_runs()
        beginning = Beginning.new(
            self.cache,
            options,
            tuple(targets),
            {**self.given, **(parameters or {})},
            parent,
            self.retention if retention is None else retention,
            kept=not no_cache and not self.is_dry and self.cache.writable,
        )
        return self.begin(prepared, beginning, detached=detached)

    def look(
        self,
        targets: Sequence[str],
        options: RunOptions,
        parameters: Mapping[str, str],
        *,
        no_cache: bool = False,
    ) -> Prepared:
        """Take the snapshot of a run with its parameters.

        Raises:
            NbcacheError: the pipeline does not fit together, or nothing is declared.
        """
        with given(self.namespace, parameters, self.cells()):
            check_given(self.namespace)
            prepared = self.prepare(targets, options, no_cache=no_cache)
        if not prepared.graph.places and not prepared.graph.channels:
            pipeline = self.names.pipeline()
            for each in pipeline.processes():
                pipeline.process(each, None)  # says that it is not wired, and how it could be
            raise NotRunError(
                "there is nothing to run: declare a process with %%process, or a channel that "
                "calls one"
            )
        return prepared

    def begin(self, prepared: Prepared, beginning: Beginning, *, detached: bool = False) -> Run:
        """Begin a session of a run over a snapshot: its first row, then its tasks.

        Raises:
            RunError: this is a forked process, in which nothing runs. NotRunError: as `start`.
        """
        engine_loop()
        if self.is_dry and beginning.hold is not None:  # the run of another day
            beginning.hold.release()
            raise _nothing_runs()
        if detached:
            detach(prepared)
        opened = open_run(self, prepared, beginning, self._noted)
        self.last_run = opened.run
        self.performer.begin(opened)
        return opened.run

    def read_shown(self, stored: Stored) -> Sequence[ShownChunk]:
        """Return what a task showed, from where its row keeps it."""
        return chunks_of(stored, self.cache.blobs.bytes_of(stored))

    def resume(self, run: str | None = None, **changes: Unpack[Changes]) -> Run:
        """Go on with a run under its own id; see `resuming.resume`."""
        check_retention(changes.get("retention") or "")
        return resuming.resume(self, run, **changes)

    def relaunch(self, run: str | None = None, **changes: Unpack[Changes]) -> Run:
        """Start a new run from an old one's parameters; see `resuming.relaunch`."""
        check_retention(changes.get("retention") or "")
        return resuming.relaunch(self, run, **changes)

    # ------------------------------------------------------------------ reading

    def restore(self, run: str | None = None) -> RestoredRun:
        """Bind the processes of a run to its results, where their names are free.

        Nothing is decoded until it is read. Without `run` it is the newest run of this notebook.

        Raises:
            RunError: there is no such run.
        """
        return restore(self.cache, self.namespace, run, notebook=self.notebook)

    def read(self, held: Readable, first: int | None = None) -> Results:
        """Return a process's results, or a channel's items; see `reading.read`."""
        return read(self, held, first)

    def try_one(self, name: str, item: str | None = None, *, into: bool = False) -> TryResult:
        """Run one item of a process in this very process: plain output, not cached.

        `item` is a position or "field=value", None for the first, "failed" for the first that
        failed in the last run. With `into`, inputs and outputs stay as variables.
        """
        return try_task(self, name, item, into=into)


def _nothing_runs() -> NotRunError:
    return NotRunError("something would have to run for this, and nothing runs for a plan")


_current: Session | None = None
_plain: WeakKeyDictionary[ModuleType, Session] = WeakKeyDictionary()  # by their main module


def current_session() -> Session:
    """Return the kernel's session; in plain Python one over the main module's names.

    There each main module has its own: a marimo app has one for every page that is open.
    """
    if _current is not None:
        return _current
    main = sys.modules["__main__"]
    if main not in _plain:
        _plain[main] = Session(main.__dict__, Path.cwd())
    return _plain[main]


def set_current_session(session: Session | None) -> None:
    """Make a session the kernel's (None: forget it)."""
    global _current
    _current = session
    _plain.clear()


def _wait(run: Run) -> None:
    run.wait()


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
