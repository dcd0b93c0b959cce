"""Keep what an ordinary cell made, and bring it back: `%%cached`, without its front.

A cell runs in the kernel as it would anyway. Before it, its fingerprint is taken (code, captured
names, modules, files, as of a process) and looked up; after it, what it assigned and showed is
kept, unless that would not be the whole truth: it changed something else, or holds what cannot be
kept. Then the reason is said, and the cell has run as any other.
"""

from __future__ import annotations
import __future__

import ast
import os
import socket
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nbcache.codec.registry import decode
from nbcache.engine.cell_history import CellHistory
from nbcache.engine.cell_limits import (
    changed_while_it_ran,
    is_mutable,
    refuse_changed_reads,
    refuse_hidden_names,
)
from nbcache.engine.identity.capture import capture
from nbcache.engine.identity.captured import Captured
from nbcache.engine.identity.loaded import LoadedModules
from nbcache.engine.identity.places import Places
from nbcache.engine.identity.read_state import ReadState, changed_read
from nbcache.engine.identity.reads import named_files
from nbcache.engine.running.rows import now_us, user_name
from nbcache.engine.session import Session
from nbcache.engine.work.attempt import store_shown
from nbcache.engine.work.callers import CALLING_IMPORT
from nbcache.engine.work.display import is_drawing
from nbcache.engine.work.harvest import INLINE_ROW_MAX, keep_value
from nbcache.engine.work.listening import watch_calls_of_import
from nbcache.engine.work.shown import Shown, chunks_of
from nbcache.engine.work.watch import Watcher
from nbcache.errors import (
    BlobDamagedError,
    CodecError,
    FingerprintError,
    NoCanonicalFormError,
    NotKept,
    StoreError,
)
from nbcache.model.digest import Digest
from nbcache.model.row import AttemptRow, Port, UseRow, WatchedRead
from nbcache.model.task import Outcome
from nbcache.model.value import Stored
from nbcache.model.view import ShownChunk
from nbcache.plan.identity.confidential import confidential_texts
from nbcache.plan.identity.explain import differences, one_line
from nbcache.plan.identity.fingerprint import SharedPart, component
from nbcache.plan.identity.reach import combine
from nbcache.plan.language.cell import CachedCell
from nbcache.store.entry import Entry
from nbcache.store.files import new_ulid

FIRST = "first run of this cell here"
_AMBIENT = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open", "display"})


@dataclass
class Begun:
    """A cell that runs now: what it was before."""

    cell: CachedCell
    shared: SharedPart
    captured: Captured
    before: dict[str, object]
    start_us: int
    reason: str = ""
    taken: dict[str, str] = field(default_factory=dict)
    """Local modules that it imported by a name that only a run knows, with their files."""

    @property
    def hash(self) -> Digest:
        """The hash under which what it makes is kept."""
        return self.shared.task_hash(())

    @property
    def unsure(self) -> list[str]:
        """Names that it may leave as they were, not reading them: what it keeps of them may be the
        work of other cells. Drawings are kept of no cell."""
        before, cell = self.before, self.cell
        names = sorted((cell.unsure - cell.facts.free - cell.gone) & before.keys())
        return [each for each in names if not is_drawing(before[each])]


@dataclass(frozen=True)
class Restored:
    """What a hit brings back."""

    values: Mapping[str, object]
    chunks: Sequence[ShownChunk]
    entry: Entry


class Cells:
    """The cached cells of one session."""

    def __init__(self, session: Session, loaded: LoadedModules) -> None:
        self._session, self._loaded = session, loaded
        self.user = user_name()
        self._watcher: Watcher | None = None
        self._history = CellHistory(session, self.user)

    # ------------------------------------------------------------------ before the cell

    def begin(self, cell: CachedCell) -> Begun:
        """Take the fingerprint of a cell that is about to run.

        Raises:
            NotKept: something that it reads cannot be identified.
        """
        session = self._session
        namespace = session.namespace
        captured = self._capture(cell, namespace)
        self._refuse_stale({name: each.path for name, each in captured.modules.items()})
        refuse_hidden_names(cell, captured.components)
        sources = [cell.decl.body, *captured.helper_sources]
        files = [
            component("file", text, session.cache.files.digest(path), f"{text}, named in the code")
            for text, path in sorted(named_files(sources, session.folder).items())
        ]
        kind = component("options", "cached", combine("cached", 1), "a %%cached cell")
        shared = SharedPart([*captured.components, *files, kind])
        return Begun(cell, shared, captured, dict(namespace), now_us())

    def _refuse_stale(self, modules: Mapping[str, str]) -> None:
        if stale := self._loaded.stale(modules):
            raise NotKept(
                f"the file of the module {stale} changed after it was imported here; import it "
                "anew (importlib.reload, or %autoreload 3: 2 renews only what was edited in it)"
            )

    def _capture(self, cell: CachedCell, namespace: Mapping[str, object]) -> Captured:
        try:
            return capture(
                cell.decl, cell.facts, namespace, notebook_dir=self._session.folder, send=False
            )
        except FingerprintError as error:
            text = str(error).partition("\n")[0]
            if isinstance(error, NoCanonicalFormError):
                stands = error.reason == error.RESULTS
                way = (
                    "read them in a cell above"
                    if stands
                    else f"leave it out: --ignore {error.name}"
                )
                text = f"{error.fact}; {way}"
            raise NotKept(text.replace("process 'cell': ", "")) from None

    def look_up(self, begun: Begun) -> Restored | None:
        """Return what is kept of the cell, if all of it can be had."""
        cache = self._session.cache
        cache.log.refresh()
        entry, refused = cache.log.answer(begun.hash)
        made = {port.name for port in entry.outputs} if entry else set()
        if not made.issuperset(begun.unsure):  # there may be none because there was none before
            shared = self._with_unsure(begun)
            entry = None if shared is None else cache.log.answer(shared.task_hash(()))[0]
            begun.shared = begun.shared if entry is None or shared is None else shared
        if entry is None:
            begun.reason = refused or self._why(begun)
            return None
        held = self._with_reads_as_now(begun, entry)
        if held is None:
            return None
        try:
            with cache.activity.working():
                return self._restore(begun.cell, held)
        except Exception as error:  # also what the code of a value or a definition raises
            self._put_back(begun)
            begun.reason = f"what was kept cannot be read: {str(error).partition(chr(10))[0]}"
            return None

    def _with_unsure(self, begun: Begun) -> SharedPart | None:
        """Return the fingerprint with what unsure names held, under which is kept what a run seems
        to have left, for nobody knows whether it assigned the same, or has taken away. None: there
        are no such names, or what they held cannot be identified."""
        if not begun.unsure:
            return None
        decl, facts = begun.cell.decl, begun.cell.facts
        decl = replace(decl, body="\n".join([decl.body, *begun.unsure]))  # as if it read them
        cell = replace(
            begun.cell, decl=decl, facts=replace(facts, free=facts.free.union(begun.unsure))
        )
        try:
            found = self._capture(cell, begun.before).components
        except NotKept:
            return None
        known = {each.key for each in begun.shared.components}
        return SharedPart(
            [*begun.shared.components, *(each for each in found if each.key not in known)]
        )

    def _with_reads_as_now(self, begun: Begun, best: Entry) -> Entry | None:
        """Return the best result of the cell's hash that read what is there now, or None."""
        state = ReadState(self._session.cache.files, self._session.folder)
        changed: list[WatchedRead] = []
        entries = self._session.cache.log.find_all(begun.hash) if best.reads else [best]
        for entry in entries:
            stale = next((read for read in entry.reads if not state.holds(read)), None)
            if stale is None:
                return entry
            changed.append(stale)
        begun.reason = changed_read(changed[0])
        return None

    def _put_back(self, begun: Begun) -> None:
        """Give the cell's names the values that they had before it."""
        for name in begun.cell.bound | begun.cell.facts.bound:
            self._session.namespace.pop(name, None)
            if name in begun.before:
                self._session.namespace[name] = begun.before[name]

    def _why(self, begun: Begun) -> str:
        rows = self._session.cache.log.attempts(process=begun.cell.name)
        cells = [row for row in rows if row.executor == "kernel"]
        if not cells:
            return FIRST
        last = max(cells, key=lambda row: (row.at, row.id))
        now, then = begun.shared.components, {each.key for each in last.components}
        fuller = self._with_unsure(begun)
        if fuller is not None and not then.isdisjoint(
            {each.key for each in fuller.components} - {each.key for each in now}
        ):
            now = fuller.components
        found = differences(last.components, now)
        if not found:
            return "its earlier result was taken out of the cache"
        total = len({each.key for each in (*last.components, *now)})
        return one_line(begun.cell.name, found, total)

    def _restore(self, cell: CachedCell, entry: Entry) -> Restored:
        """Decode all values, define what the cell defines, bind the names.

        A value may be of a class that the cell defines, and a definition may read a value: what
        cannot be decoded at first is tried again when all is defined.
        """
        data = {port.name: self._bytes(port.stored) for port in entry.outputs}
        held = {port.name: port.stored for port in entry.outputs}
        chunks = [] if entry.shown is None else chunks_of(entry.shown, self._bytes(entry.shown))
        values: dict[str, object] = {}
        later: list[str] = []
        for name in data:
            try:
                values[name] = decode(held[name].codec, data[name], vouched=held[name].vouched)
            except CodecError:
                if not cell.definitions:
                    raise
                later.append(name)
        found = _by_name(values)
        self._bind(cell, found)
        for name in later:
            values[name] = decode(held[name].codec, data[name], vouched=held[name].vouched)
        found = _by_name(values)
        self._session.namespace.update(found)
        return Restored(found, chunks, entry)

    def _bind(self, cell: CachedCell, values: Mapping[str, object]) -> None:
        """Leave the names as the cell leaves them; temporary ones are gone."""
        namespace = self._session.namespace
        for name in cell.bound - values.keys():
            namespace.pop(name, None)
        namespace.update(values)
        for each in cell.definitions:
            # One by one, as IPython does: a function's code depends on imports in the same piece.
            code = compile(
                ast.Module([each], []),
                cell.decl.filename,
                "exec",
                flags=_future_flags(namespace),
                dont_inherit=True,
            )
            exec(code, namespace)
        for name in cell.gone:
            namespace.pop(name, None)

    def _bytes(self, stored: Stored) -> bytes:
        blobs = self._session.cache.blobs
        try:
            return blobs.bytes_of(stored)
        except BlobDamagedError:
            if self._session.cache.writable and stored.blob is not None:
                blobs.set_aside(stored.blob)  # else keeping it again would find it there
            raise

    def note_hit(self, begun: Begun, restored: Restored) -> None:
        """Write down that a kept result was used."""
        if self._session.is_dry:
            return
        run, number = self._history.next_session()
        use = UseRow(
            id=new_ulid(),
            at=now_us(),
            run=run,
            session=number,
            process=begun.cell.name,
            hash=begun.hash,
            cached_from=restored.entry.row_id,
        )
        saved_s = restored.entry.realtime or 0.0
        self._history.append(use, begun.cell, Outcome.CACHED, saved_s=saved_s)

    # ------------------------------------------------------------------ while it runs

    def watch(self, begun: Begun) -> None:
        """Take note of what the cell reads, from now on."""
        cache = self._session.cache
        if self._watcher is None:
            self._watcher = Watcher(cache.files)
            self._watcher.install()
        self._watcher.state = ReadState(cache.files)
        self._places = Places(str(cache.root), str(self._session.folder))
        self._known_modules = set(sys.modules)
        self._known_local = self._local_modules(self._known_modules)
        self._watcher.begin(self._places, str(cache.tmp / "no-folder"))
        texts = (begun.cell.decl.body, *begun.captured.helper_sources)
        if any(word in text for word in CALLING_IMPORT for text in texts):
            watch_calls_of_import()

    def _local_modules(self, names: Iterable[str]) -> dict[str, str]:
        files = {each: getattr(sys.modules.get(each), "__file__", None) or "" for each in names}
        return {each: file for each, file in files.items() if self._places.is_local_module(file)}

    def unwatch(self, begun: Begun) -> tuple[WatchedRead, ...]:
        """Return what it read without naming it."""
        assert self._watcher is not None
        declared = dict.fromkeys((*begun.cell.decl.directives.env, "MPLBACKEND"), "")
        self._watcher.hear_children()
        new = self._local_modules(sys.modules.keys() - self._known_modules)
        run = {name: file for name, (file, _) in self._watcher.taken.run.items()}
        local = {**self._known_local, **run, **new}
        known = begun.captured.modules
        taken = new.keys() - known.keys()
        more = self._watcher.taken.beyond(known, (), local)
        taken |= self._watcher.reached_beyond(known, more, local) if more else set()
        begun.taken = {each: local[each] for each in taken}
        path = [os.path.abspath(each) for each in sys.path]
        return self._watcher.end(declared, begun.taken, sys_path=path)

    # ------------------------------------------------------------------ after the cell

    def keep(self, begun: Begun, shown: Shown, watched: tuple[WatchedRead, ...]) -> AttemptRow:
        """Keep what a cell that ended well has made.

        Raises:
            NotKept: why that would not bring back what it did.
        """
        complete = now_us()
        self._check_names(begun)
        self._check_captured(begun)
        refuse_changed_reads(watched)
        self._refuse_stale(begun.taken)
        after = self._session.namespace
        before = begun.before
        if left := [each for each in begun.unsure if after.get(each, before[each]) is before[each]]:
            if (shared := self._with_unsure(begun)) is None:
                raise NotKept(f"it may have left {left[0]} as it was, which cannot be identified")
            begun.shared = shared
        cache = self._session.cache
        shown.hide(confidential_texts({**begun.before, **self._session.namespace}))
        try:
            with cache.activity.working():
                ports = self._ports(begun)
                run, number = self._history.next_session()
                row = AttemptRow(
                    id=new_ulid(),
                    at=begun.start_us,
                    run=run,
                    process=begun.cell.name,
                    hash=begun.hash,
                    generation=cache.log.next_generation(begun.hash),
                    status=Outcome.COMPLETED.value,
                    session=number,
                    submit=begun.start_us,
                    start=begun.start_us,
                    complete=complete,
                    duration=(complete - begun.start_us) / 1e6,
                    realtime=(complete - begun.start_us) / 1e6,
                    host=socket.gethostname(),
                    user=self.user,
                    executor="kernel",
                    components=begun.shared.components,
                    watched=watched,
                    outputs=ports,
                    shown=store_shown(shown, cache),
                    reason=begun.reason,
                )
                self._history.append(row, begun.cell, Outcome.COMPLETED)
        except StoreError as error:
            raise NotKept(str(error)) from None
        return row

    def _check_names(self, begun: Begun) -> None:
        """Nothing but what the cell's text assigns may have got another value."""
        own = begun.cell.facts.bound | begun.cell.bound
        before, after = begun.before, self._session.namespace
        others = {*before, *after} - own - _AMBIENT
        for name in sorted(each for each in others if each[:1] != "_"):
            if name not in after:
                raise NotKept(f"it deletes {name}")
            if name not in before:
                raise NotKept(f"it makes {name}, which its text does not assign")
            if before[name] is not after[name]:
                raise NotKept(f"it changes {name}, which its text does not assign")

    def _check_captured(self, begun: Begun) -> None:
        """What the cell read has to be as it was: by its content, not only its name."""
        own = begun.cell.facts.bound | begun.cell.bound
        now = {name: value for name, value in self._session.namespace.items() if name not in own}
        now.update({name: begun.before[name] for name in own & begun.before.keys()})
        after = {each.key: each for each in self._capture(begun.cell, now).components}
        for each in begun.captured.components:
            found = after.pop(each.key, None)
            if found is None or found.digest != each.digest:
                raise NotKept(changed_while_it_ran(each))
        for each in after.values():
            raise NotKept(changed_while_it_ran(each))

    def _ports(self, begun: Begun) -> tuple[Port, ...]:
        """Encode what the cell assigned; names of one and the same object share a port."""
        namespace = self._session.namespace
        read = {
            id(value): name
            for name, value in begun.before.items()
            if name in begun.cell.facts.free and is_mutable(value)
        }
        holders: dict[int, list[str]] = {}
        for name in begun.cell.names:
            if name not in namespace:
                continue  # deleted again
            value = namespace[name]
            if is_drawing(value):
                continue  # it was shown
            if isinstance(value, types.ModuleType):
                raise NotKept(f"it imports {name} inside of a block")
            if id(value) in read:
                raise NotKept(
                    f"{name} is {read[id(value)]} itself, and would come back as another object; "
                    "let it be a copy"
                )
            holders.setdefault(id(value), []).append(name)
        ports: list[Port] = []
        inline = INLINE_ROW_MAX
        for names in holders.values():
            value = namespace[names[0]]
            try:
                stored = keep_value(self._session.cache, value, inline, by_reference=True)
            except CodecError as error:
                reason = str(error).partition("\n")[0]
                raise NotKept(
                    f"{names[0]}: {reason}; leave it out: name what to keep, %%cached NAMES"
                ) from None
            inline -= len(stored.inline or b"")
            ports.append(Port(",".join(names), stored))
        return tuple(ports)


def _future_flags(namespace: Mapping[str, object]) -> int:
    """Return how a notebook that imported it from `__future__` compiles its later cells."""
    lazy = __future__.annotations
    return lazy.compiler_flag if namespace.get("annotations") is lazy else 0


def _by_name(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for names, value in values.items() for name in names.split(",")}
