"""Decide for a task whether the cache holds its result: fingerprint it, look it up, check it.

A row counts if it is completed, not evicted, its watched reads are unchanged and its blobs are
there. Anything else is a miss, with its reason. The same decision serves a run and a plan, so
that they cannot disagree. Nothing here starts anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from nbcache.engine.identity.downloads import Downloads
from nbcache.engine.identity.identify import Identified, Identifier, staged_elsewhere
from nbcache.engine.identity.read_state import ReadState, changed_read, with_settings
from nbcache.engine.record.rare_rows import rare_rows
from nbcache.engine.record.results import Decoder, Elements, task_label
from nbcache.engine.record.trusted import last_words
from nbcache.engine.running.decision import Decision, Place, blobs_of
from nbcache.engine.running.evaluating import Evaluator
from nbcache.engine.running.shelf import Shelf
from nbcache.engine.work.harvest import from_ports
from nbcache.engine.work.shown import hide_secrets
from nbcache.errors import ChannelError, NbcacheError
from nbcache.model.channel import Item
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.event import TaskKey
from nbcache.model.ids import format_position
from nbcache.model.row import EvictRow, TrustRow
from nbcache.model.value import Gathered, RemoteFile, Stored, StoredKind
from nbcache.plan.identity.confidential import (
    HIDDEN,
    confidential_texts,
    is_confidential,
    looks_secret,
)
from nbcache.plan.identity.fingerprint import component
from nbcache.plan.language.places import place_of_input, said_place
from nbcache.plan.language.publishing import render_folder
from nbcache.plan.language.quantities import render_pattern, render_template
from nbcache.plan.retention import RETENTION_OVER
from nbcache.store.cache import Cache
from nbcache.store.entry import Entry
from nbcache.store.log import Log

STALE_S = 60.0  # a look-up knows what stood in the log so long ago: a clean-up counts on it

REVOKED = "the word by which an earlier result was trusted was revoked"
FOREIGN_WORD = "its earlier result is that of other code, trusted by the owner of this cache alone"
TRUSTED_GONE = "the result that was trusted is no longer in the cache"
TAKEN_OUT = "its earlier result was taken out of the cache"
ALONE = "cache: off"  # the component that sets tasks without cache apart


class Decider:
    """Decides the tasks of one run. Owned by one thread at a time."""

    def __init__(
        self,
        cache: Cache,
        places: Mapping[int, Place],
        identifier: Identifier,
        decoder: Decoder,
        folder: Path,
        *,
        fresh: Collection[int] = (),
        no_cache: bool = False,
        handed_on: Mapping[int, frozenset[str]] | None = None,
    ) -> None:
        """`fresh`: places for whose tasks only rows of the run itself count; `handed_on`: those
        whose results only other tasks take, with the outputs that have to be there all the same."""
        self._cache, self._places, self._folder = cache, places, folder
        self._identifier, self.evaluator = identifier, Evaluator(decoder)
        self._fresh, self._no_cache = frozenset(fresh), no_cache
        self._run = ""
        self._handed_on = handed_on or {}
        self._promised: set[str] = set()  # blobs of results that are known and are not there
        self._needed: set[str] = set()  # blobs that an attempt wants, so that knowing is not enough
        self._evicted: dict[str, set[str]] | None = None  # rows that were taken out -> why
        self._there: dict[str, bool] = {}  # blobs whose presence was looked at in this run
        self._state = ReadState(cache.files, folder)
        self._reads: dict[tuple[str, str, str | None], bool] = {}
        self._words: dict[Digest, TrustRow] | None = None  # read when something misses
        self.would_trust: Callable[[Decision], Digest | None] = lambda _: None  # beside these words
        self._shelved: dict[tuple[Path, str], Decision] = {}

    def for_run(self, run: str) -> None:
        """Say for which run tasks are decided; a plan has none."""
        self._run = run

    def decide(self, task: TaskKey, inputs: Mapping[str, object]) -> Decision:
        """Fingerprint a task and look it up.

        Raises:
            NbcacheError: an input does not exist, is of the wrong type or cannot be identified.
        """
        place = self._places[task[0]]
        decl = place.decl
        mode = decl.directives.cache
        mode = "deep" if mode == "off" else mode
        modes = dict(decl.directives.cache_of)
        if place.defaults:
            inputs = {**place.defaults, **inputs}
        found: dict[str, Identified] = {}
        parts: list[tuple[str, str, Digest]] = []
        for name, value in inputs.items():
            hidden = is_confidential(name, value)
            try:
                each = self._identifier.identify(
                    value,
                    place.types.get(name),
                    modes.get(name, mode),
                    place.input_name(name),
                    hidden=hidden,
                )
            except ChannelError as error:
                where = said_place(decl, place_of_input(decl, name))
                raise ChannelError(f"{error}\n  {where}") from None
            if hidden:
                each = each.confidential()
            found[name] = each
            parts.append((name, "input", each.digest))
        if place.staging:
            parts = self._stage_elsewhere(place, found)
        values = {name: each.value for name, each in found.items()}
        tag = ""
        if decl.directives.tag:
            hidden_ones = {name: inputs[name] for name in found if found[name].summary == HIDDEN}
            tag = render_template(decl.directives.tag, self.evaluator.lazily(values))
            tag = hide_secrets(tag, confidential_texts(hidden_ones))
        label = task_label(place.name, values, task[1], tag)
        decision = Decision(task, place, None, found, label, tag)
        if place.scripts and self.evaluator.is_wanted(decision):
            decision.place = place = self.evaluator.script_for(decision)
        if decl.directives.cache == "off":
            parts += self._alone(decision)
        if decl.directives.cache != "off" or decision.own:
            decision.hash = place.shared.task_hash(parts)
        if decl.directives.store is not None and self._take_from_shelf(decision):
            return decision
        self.look_up(decision)
        return decision

    def _alone(self, decision: Decision) -> list[tuple[str, str, Digest]]:
        """Give a task of a process without cache what makes its hash its own, in this run only.

        So its row counts for nobody else, and a resume finds it. A plan has no run: no hash.
        """
        if not self._run:
            return []
        place = f"{decision.place.name}[{format_position(decision.task[1])}]"
        digest = identity_digest(f"run {self._run} {place}".encode())
        decision.own = (component("input", ALONE, digest, f"of {place} in one run"),)
        decision.reason = "its process uses no cache (cache: off)"
        return [(ALONE, "input", digest)]

    def _stage_elsewhere(
        self, place: Place, found: dict[str, Identified]
    ) -> list[tuple[str, str, Digest]]:
        """Let inputs be seen under the names that `stage_as` gives; return what enters the hash."""
        names = self.evaluator.lazily({name: each.value for name, each in found.items()})
        for name, pattern in place.staging.items():
            found[name] = staged_elsewhere(found[name], pattern, names)
        return [(name, "input", each.digest) for name, each in found.items()]

    def place_of(self, task: TaskKey) -> Place:
        """Return a task's process at its place: with all of its scripts, if there are several."""
        return self._places[task[0]]

    def may_read(self, place: int) -> bool:
        """Whether deciding a task may take long: it has a file by default, or a store folder."""
        held = self._places[place]
        return bool(held.defaults) or held.decl.directives.store is not None

    def expect(self, task: TaskKey, inputs: Mapping[str, object]) -> None:
        """Begin to fetch what has to be read for a task's hash, before its turn comes."""
        if not any(isinstance(each, (RemoteFile, list, tuple)) for each in inputs.values()):
            return
        decl = self._places[task[0]].node.decl
        assert decl is not None
        modes = dict(decl.directives.cache_of)
        for name, value in inputs.items():
            if modes.get(name, decl.directives.cache) not in ("standard", "lenient"):
                self._identifier.expect(value)

    @property
    def downloads(self) -> Downloads:
        """What is being fetched for tasks."""
        return self._identifier.downloads

    def fetch(self, decision: Decision) -> None:
        """Bring what lies elsewhere into the cache, for a task that is to run.

        Raises:
            NbcacheError: a file cannot be read, or is not what was decided on.
        """
        for name, each in decision.inputs.items():
            try:
                self._identifier.fetch(each)
            except ChannelError as error:
                raise ChannelError(f"{decision.place.input_name(name)}: {error}") from error

    def outline(self, decision: Decision) -> None:
        """Note of what the inputs consist of a task that is to run."""
        for name, each in decision.inputs.items():
            if not looks_secret(name):
                self._identifier.outline(each)

    def _take_from_shelf(self, decision: Decision) -> bool:
        """Take the result that stands in the store folder, if it is there.

        Raises:
            NbcacheError: another task of the run has its result under the same names.
        """
        shelf = decision.shelf = self._shelf(decision)
        other = self._shelved.setdefault((shelf.folder, shelf.key), decision)
        if other.task != decision.task and (other.hash is None or other.hash != decision.hash):
            raise NbcacheError(
                f"{decision.label} and {other.label} would have one result in {shelf.folder}.\n"
                "  Tell them apart: --store FOLDER/{sample}, or the name of the file"
            )
        held = shelf.take()
        if held is None:
            return False
        decision.outputs = self.item(decision, held)
        decision.stored = decision.outputs is not None
        decision.ports = {name: self._port(each) for name, each in held.items()}
        made = " from other inputs or code" if shelf.differs() else ""
        decision.reason = f"taken from the store folder {shelf.folder}, as it was made{made}"
        return decision.stored

    def _port(self, held: object) -> Stored | Gathered:
        """Return a file outside of the cache as a row tells of it: by content."""
        if isinstance(held, Gathered):
            return Gathered(map(self._port, held))
        if isinstance(held, Stored):
            return held
        path = Path(held)  # type: ignore[arg-type]
        kind: StoredKind = "tree" if path.is_dir() else "file"
        size = path.stat().st_size if kind == "file" else 0
        return Stored(self._cache.files.digest(path), kind, kind, size, name=path.name)

    def _shelf(self, decision: Decision) -> Shelf:
        place = decision.place
        assert place.decl.directives.store is not None
        names = self.evaluator.lazily(decision.values())
        folder = render_folder(place.decl.directives.store, names)
        own = [each for each in place.outputs if each.name not in place.passed]
        return Shelf(
            folder=Path(os.path.abspath(self._folder / os.path.expanduser(folder))),
            process=place.decl.name,
            outputs=own,
            patterns={
                each.name: os.path.basename(render_pattern(each.pattern or each.name, names))
                for each in own
            },
            hash=decision.hash or "",
        )

    def look_up(self, decision: Decision) -> bool:
        """Look for a row that counts and note it in the decision; False: it has to run."""
        if decision.hash is None or self._no_cache:
            return False
        log, shared = self._cache.log, self._cache.shared
        log.refresh(older_than_s=STALE_S)
        own = self._run if decision.task[0] in self._fresh else None
        entry, refused = log.answer(decision.hash, run=own)
        if entry is None and own is None:
            entry = self._trusted(decision)
        if entry is None:
            decision.refused, decision.reason = refused, refused or decision.reason
            if not refused and log.is_evicted(decision.hash):
                decision.reason = self._why_taken_out(decision.hash)
        if entry is not None and self._take(decision, entry, log, own):
            return True
        if shared is not None and own is None:
            entry = shared.find(decision.hash)
            if entry is not None and self._take(decision, entry, shared.log, own):
                decision.is_shared, decision.reason = True, ""
                return True
            decision.refused = decision.refused or shared.log.answer(decision.hash)[1]
            decision.reason = decision.reason or decision.refused
        return own is None and self._take_known(decision)

    def _take(self, decision: Decision, entry: Entry, log: Log, run: str | None) -> bool:
        """Take a row that was found, or another of its hash, if its reads and results hold."""
        held: Entry | None = entry
        if entry.reads and not self._reads_hold(entry, decision):
            reason, others = decision.reason, log.find_all(entry.hash, run=run)
            held = next((each for each in others if self._reads_hold(each, decision)), None)
            if held is None:
                decision.reason = reason
        outputs = self._outputs(decision, held) if held is not None else None
        if outputs is None:
            return False
        decision.entry, decision.outputs = held, outputs
        decision.is_trusted = entry.hash != decision.hash
        return True

    def handed_on(self, elements: Callable[[int], Elements]) -> Iterator[str]:
        """Yield the processes of whose results only other tasks took the bytes: without these an
        equal run is all hits."""
        for index, names in self._handed_on.items():
            place = self._places[index]
            needed = [at for at, each in enumerate(place.outputs) if each.name in names]
            items = elements(index) if needed else ()
            taken = (item[at] for _, item in items if isinstance(item, tuple) for at in needed)
            if next(blobs_of(taken), None) is None:
                yield place.name

    def need_results(self) -> None:
        """Let no result count of which only the log tells: they will be read."""
        self._handed_on = {}

    def _take_known(self, decision: Decision) -> bool:
        """Take a result that went when its retention was over, and of which the log says what it
        was: enough to decide the tasks that took it, where nobody else does."""
        log, place = self._cache.log, decision.task[0]
        assert decision.hash is not None
        if place not in self._handed_on or not self._cache.is_own:
            return False
        reason = decision.reason
        for entry in log.evicted(decision.hash):
            is_released = self._evictions().get(entry.row_id) == {RETENTION_OVER}
            if is_released and self._reads_hold(entry, decision):
                outputs = self._outputs(decision, entry, apart=self._handed_on[place])
                if outputs is not None:
                    decision.entry, decision.outputs, decision.reason = entry, outputs, ""
                    decision.is_known_only = True
                    return True
        decision.reason = reason
        return False

    def _why_taken_out(self, hash: Digest) -> str:
        """Say so, and of a result whose time was not just over, why."""
        known = [
            self._evictions().get(each.row_id, set()) for each in self._cache.log.evicted(hash)
        ]
        whys = known[0] if known and {RETENTION_OVER} not in known else ()
        return ": ".join([TAKEN_OUT, *sorted(filter(None, whys))[:1]])

    def _evictions(self) -> Mapping[str, set[str]]:
        if self._evicted is None:
            self._evicted = {}
            for row in rare_rows(self._cache.log, EvictRow, readable=True):
                if row.row is not None:
                    self._evicted.setdefault(row.row, set()).add(row.reason)
        return self._evicted

    def _trusted(self, decision: Decision) -> Entry | None:
        """Return the result that somebody took for that of a task whose code was edited."""
        assert decision.hash is not None
        if self._words is None:
            self._words = last_words(self._cache.log, readable=True)
        word = self._words.get(decision.hash)
        if not self._cache.is_own:  # else what is signed for one hash would count for another
            decision.reason = decision.reason if word is None else FOREIGN_WORD
            return None
        if word is None or word.revoked:
            decision.reason = REVOKED if word is not None else decision.reason
            same_as = self.would_trust(decision)
            return None if same_as is None else self._cache.log.find(same_as)
        found = self._cache.log.find(word.same_as)
        if found is None:
            decision.reason = TRUSTED_GONE
        return found

    def _reads_hold(self, entry: Entry, decision: Decision) -> bool:
        settings = decision.place.captured.settings
        for read in with_settings(entry.reads) if settings else entry.reads:
            key = (read.kind, read.name, read.digest)
            if read.kind == "settings":  # each process has its own
                holds = settings.digest(read.name) == read.digest
            elif key in self._reads:
                holds = self._reads[key]
            else:
                holds = self._reads[key] = self._state.holds(read)
            if not holds:
                decision.reason = changed_read(read)
                return False
        return True

    def _outputs(
        self, decision: Decision, entry: Entry, apart: Collection[str] | None = None
    ) -> Item | None:
        """Return the item that a row gives, or None where a blob of it is gone.

        apart: only the blobs of these outputs, and those that attempts want, have to be there.
        """
        kept: dict[str, object] = {}
        gone: dict[Digest, str] = {}  # blob -> the output that it is of
        for name, value in from_ports(entry.outputs).items():
            for stored in _leaves(value):
                if self._is_there(stored) or self._is_offered(entry.hash, stored):
                    continue
                blob = stored.blob
                assert blob is not None  # else it is there
                if apart is None or name in apart or blob in self._needed:
                    gone.setdefault(blob, name)
                else:
                    self._promised.add(blob)
            kept[name] = value
        if gone:
            decision.reason = f"its result {next(iter(gone.values()))} is no longer in the cache"
            decision.gone = frozenset(gone)
            return None
        return self.item(decision, kept)

    def item(self, decision: Decision, kept: Mapping[str, object]) -> Item | None:
        """Return the item of a task: what was kept, and the inputs that it passes on."""
        item: list[object] = []
        passed, made = decision.place.passed, decision.place.made
        if made is not None and made not in kept:
            # An output that is named like its process: renaming the process does not run it.
            own = [name for name in kept if name not in passed]
            if len(own) == 1:
                kept = {**kept, made: kept[own[0]]}
        for output in decision.place.outputs:
            if output.name in kept:  # also an input that the body may have changed
                item.append(kept[output.name])
            elif output.name in passed:
                item.append(decision.inputs[output.name].value)
            else:
                decision.reason = f"the earlier result has no output {output.name}"
                return None
        return tuple(item)

    def forget(self, blob: Digest) -> None:
        """Look at a blob again, which has to be there: an attempt found it missing."""
        self._there.pop(blob, None)
        self._needed.add(blob)

    def _is_there(self, stored: Stored) -> bool:
        if stored.blob is None:
            return True
        there = self._there.get(stored.blob)
        if there is None:
            blobs = self._cache.blobs
            if stored.kind == "tree":
                there = blobs.has_tree(stored.blob)
            else:
                there = blobs.has(stored.blob, stored.size)
            if there:  # what is not there may be made again by another task meanwhile
                self._there[stored.blob] = there
        return there

    def _is_offered(self, hash: Digest, stored: Stored) -> bool:
        """Whether the shared cache has a blob, which is fetched when somebody reads it."""
        shared = self._cache.shared
        return shared is not None and stored.blob is not None and shared.offers(hash, {stored.blob})

    def to_bring(self, decision: Decision) -> list[Stored]:
        """Return what of a task's inputs has to come from the shared cache first, or to be made
        again."""
        if self._cache.shared is None and not self._promised:
            return []
        leaves = [leaf for each in decision.inputs.values() for leaf in _leaves(each.value)]
        return [leaf for leaf in leaves if leaf.blob is not None and not self._is_there(leaf)]


def _leaves(value: object) -> list[Stored]:
    if isinstance(value, Stored):
        return [value]
    if isinstance(value, Gathered):
        return [stored for member in value for stored in _leaves(member)]
    return []
