"""Decide for a task whether the cache holds its result: fingerprint it, look it up, check it.

A row counts if it is completed, not evicted, its watched reads are unchanged and its blobs are
there. Anything else is a miss, with its reason. The same decision serves a run and a plan, so
that they cannot disagree. Nothing here starts anything.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nbcache.engine.identity.capture import Captured
from nbcache.engine.identity.identify import Identified, Identifier, staged_elsewhere
from nbcache.engine.identity.read_state import ReadState, changed_read
from nbcache.engine.record.results import Decoder, task_label
from nbcache.engine.record.trusted import standing_words
from nbcache.engine.running.shelf import Shelf
from nbcache.engine.work.harvest import from_ports
from nbcache.errors import ChannelError, NbcacheError
from nbcache.model.channel import CompiledNode, Item
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.event import Resources, TaskKey
from nbcache.model.fingerprint import Component
from nbcache.model.ids import format_position
from nbcache.model.process import Dynamic, Output, PortType, Script
from nbcache.model.row import TrustRow
from nbcache.model.task import Outcome
from nbcache.model.value import FilePath, Gathered, Stored, StoredKind
from nbcache.plan.dataflow.retry import NOT_FAILED, FailedAttempt, action_after_failure
from nbcache.plan.identity.confidential import is_confidential
from nbcache.plan.identity.fingerprint import SharedPart, component
from nbcache.plan.language.directives import (
    evaluate_dynamic,
    evaluate_option,
    render_pattern,
    render_template,
)
from nbcache.plan.language.places import place_of_input, said_place
from nbcache.plan.language.publishing import render_folder
from nbcache.store.cache import Cache
from nbcache.store.log import Entry, Log

STALE_S = 60.0  # a look-up knows what stood in the log so long ago: a clean-up counts on it


RESOURCES = tuple(
    each.name for each in dataclasses.fields(Resources)
)  # as the directives are called
ALONE = "cache: off"  # the component that sets tasks without cache apart


@dataclasses.dataclass(slots=True)
class Place:
    """A process at its place in one run, with all that its tasks share."""

    node: CompiledNode
    captured: Captured
    shared: SharedPart
    passed: frozenset[str]  # outputs that are an input, untouched unless the task kept one
    types: Mapping[str, PortType | None]
    constant: Resources | None  # None: some resource is Dynamic
    defaults: Mapping[str, object]
    staging: Mapping[str, str]  # input -> under which names its files are staged
    key: str  # unique in its run
    recorded: tuple[Component, ...]  # what the run's first row says of it
    own: tuple[Component, ...] = ()  # of one of several scripts: in the rows of its tasks
    scripts: tuple[tuple[Script, Place], ...] = ()  # several of which a task runs one
    lost: str = ""  # why the first row that was found for a task of it does not count
    said: dict[str, str] = dataclasses.field(default_factory=dict)  # what errors call an input
    made: str | None = dataclasses.field(
        init=False
    )  # the one output that is no input, if it is one

    def __post_init__(self) -> None:
        made = [each.name for each in self.outputs if each.name not in self.passed]
        self.made = made[0] if len(made) == 1 else None

    def input_name(self, name: str) -> str:
        """Return how an error names an input."""
        text = self.said.get(name)
        if text is None:
            assert self.node.decl is not None
            text = self.said[name] = f"process {self.node.decl.name!r}: input {name!r}"
        return text

    @property
    def name(self) -> str:
        return self.node.name

    def each(self) -> tuple[Place, ...]:
        """Return the places that tasks run at: of several scripts one for each, else itself."""
        return tuple(place for _, place in self.scripts) or (self,)

    @property
    def is_kept(self) -> bool:
        """Whether other runs may use what its tasks make."""
        assert self.node.decl is not None
        return self.node.decl.directives.cache != "off"

    @property
    def talks(self) -> bool:
        """Whether what its tasks print is shown while they run."""
        assert self.node.decl is not None
        return self.node.decl.directives.debug

    @property
    def outputs(self) -> tuple[Output, ...]:
        assert self.node.decl is not None
        return self.node.decl.outputs or ()


@dataclasses.dataclass(slots=True)
class Decision:
    """What is known of a task once it is fingerprinted."""

    task: TaskKey
    place: Place
    hash: Digest | None
    inputs: dict[str, Identified]
    label: str
    tag: str
    entry: Entry | None = None  # the row that it hits
    outputs: Item | None = None
    reason: str = ""  # why a row that was found does not count
    refused: str = ""  # the same, where it is because nobody vouches for it
    own: tuple[Component, ...] = ()  # of the hash, beside the inputs
    failed: FailedAttempt = NOT_FAILED  # its last attempt in this run
    shelf: Shelf | None = None  # where its store folder holds its result, or will
    is_shared: bool = False  # the row stands in the shared cache, not yet in this one
    is_trusted: bool = False  # the row is of another hash: somebody took them for equal
    stored: bool = False  # `outputs` were taken from there
    ports: dict[str, Stored | Gathered] = dataclasses.field(
        default_factory=dict
    )  # then for its row

    @property
    def is_hit(self) -> bool:
        """Whether nothing has to run for it."""
        return self.outputs is not None and (self.hash is not None or self.stored)

    def values(self) -> dict[str, object]:
        """Return the inputs as they travel."""
        return {name: each.value for name, each in self.inputs.items()}


def outcome_of_hit(decision: Decision) -> Outcome:
    """Return where the result of a hit came from."""
    return Outcome.STORED if decision.stored else Outcome.CACHED


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
    ) -> None:
        """`fresh`: places for whose tasks only rows of the run itself count."""
        self._cache, self._places, self._folder = cache, places, folder
        self._identifier, self._decoder = identifier, decoder
        self._fresh, self._no_cache = frozenset(fresh), no_cache
        self._run = ""
        self._there: dict[str, bool] = {}  # blobs whose presence was looked at in this run
        self._state = ReadState(cache.files, folder)
        self._reads: dict[tuple[str, str, str | None], bool] = {}
        self._words: dict[Digest, TrustRow] | None = None  # read when something misses
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
        decl = place.node.decl
        assert decl is not None
        mode = decl.directives.cache
        mode = "deep" if mode == "off" else mode
        modes = dict(decl.directives.cache_of)
        if place.defaults:
            inputs = {**place.defaults, **inputs}
        found: dict[str, Identified] = {}
        parts: list[tuple[str, str, Digest]] = []
        for name, value in inputs.items():
            try:
                each = self._identifier.identify(
                    value, place.types.get(name), modes.get(name, mode), place.input_name(name)
                )
            except ChannelError as error:
                where = said_place(decl, place_of_input(decl, name))
                raise ChannelError(f"{error}\n  {where}") from None
            if is_confidential(name, value):
                each = each.confidential()
            found[name] = each
            parts.append((name, "input", each.digest))
        if place.staging:
            parts = self._stage_elsewhere(place, found)
        values = {name: each.value for name, each in found.items()}
        tag = ""
        if decl.directives.tag:
            tag = render_template(decl.directives.tag, self.plain(values))
        label = task_label(place.name, values, task[1], tag)
        decision = Decision(task, place, None, found, label, tag)
        if place.scripts and self.is_wanted(decision):
            decision.place = place = self._script_for(decision)
        if decl.directives.cache == "off":
            parts += self._alone(decision)
        if decl.directives.cache != "off" or decision.own:
            decision.hash = place.shared.task_hash(parts)
        if decl.directives.store is not None and self._take_from_shelf(decision):
            return decision
        self.look_up(decision)
        return decision

    def _script_for(self, decision: Decision) -> Place:
        """Return the place of the script that a task runs.

        Raises:
            NbcacheError: none of their conditions holds.
        """
        names = self.plain(decision.values())
        for script, place in decision.place.scripts:
            if script.when is None:
                return place
            if evaluate_dynamic(script.when.text, names, "expression", option="if"):
                return place
        conditions = ", ".join(str(script) for script, _ in decision.place.scripts)
        raise NbcacheError(
            f"process {decision.place.name!r}: none of its scripts is for {decision.label}, since "
            f"none of these holds: {conditions}.\n"
            "  Write a script below #| else:, or leave such items out with --when"
        )

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
        names = LazyInputs({name: each.value for name, each in found.items()}, self.plain)
        for name, pattern in place.staging.items():
            found[name] = staged_elsewhere(found[name], pattern, names)
        return [(name, "input", each.digest) for name, each in found.items()]

    def may_read(self, place: int) -> bool:
        """Whether deciding a task may take long: it has a file by default, or a store folder."""
        held = self._places[place]
        assert held.node.decl is not None
        return bool(held.defaults) or held.node.decl.directives.store is not None

    def is_quick(self, inputs: Mapping[str, object]) -> bool:
        """Whether a task can be decided without asking a server for its inputs."""
        return all(map(self._identifier.is_known, inputs.values()))

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
        assert place.node.decl is not None
        assert place.node.decl.directives.store is not None
        names = self.lazily(decision)
        folder = render_folder(place.node.decl.directives.store, names)
        own = [each for each in place.outputs if each.name not in place.passed]
        return Shelf(
            folder=Path(os.path.abspath(self._folder / os.path.expanduser(folder))),
            process=place.node.decl.name,
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
        entry = log.find(decision.hash, run=own)
        if entry is None and own is None:
            entry = self._trusted(decision)
        if entry is None:
            decision.refused = log.refusal(decision.hash)
            decision.reason = decision.refused or decision.reason
            if not decision.refused and log.is_evicted(decision.hash):
                decision.reason = "its earlier result was taken out of the cache"
        if entry is not None and self._take(decision, entry, log, own):
            return True
        if shared is not None and own is None:
            entry = shared.find(decision.hash)
            if entry is not None and self._take(decision, entry, shared.log, own):
                decision.is_shared, decision.reason = True, ""
                return True
            decision.refused = decision.refused or shared.log.refusal(decision.hash)
            decision.reason = decision.reason or decision.refused
        decision.place.lost = decision.place.lost or decision.reason
        return False

    def _take(self, decision: Decision, entry: Entry, log: Log, run: str | None) -> bool:
        """Take a row that was found, or another of its hash, if its reads and results hold."""
        held: Entry | None = entry
        if entry.reads and not self._reads_hold(entry, decision):
            held = self._with_reads_as_now(entry.hash, decision, log, run)
        outputs = self._outputs(decision, held) if held is not None else None
        if outputs is None:
            return False
        decision.entry, decision.outputs = held, outputs
        decision.is_trusted = entry.hash != decision.hash
        return True

    def _trusted(self, decision: Decision) -> Entry | None:
        """Return the result that somebody took for that of a task whose code was edited."""
        assert decision.hash is not None
        if not self._cache.is_own:
            return None  # a word would let a result that is signed for one hash count for another
        if self._words is None:
            self._words = standing_words(self._cache.log)
        word = self._words.get(decision.hash)
        return None if word is None else self._cache.log.find(word.same_as)

    def _with_reads_as_now(
        self, hash: Digest, decision: Decision, log: Log, run: str | None
    ) -> Entry | None:
        """Return an earlier result of the hash that read what is there now again, or None."""
        reason = decision.reason
        for entry in log.find_all(hash, run=run):
            if self._reads_hold(entry, decision):
                return entry
        decision.reason = reason
        return None

    def _reads_hold(self, entry: Entry, decision: Decision) -> bool:
        for read in entry.reads:
            key = (read.kind, read.name, read.digest)
            if key not in self._reads:
                self._reads[key] = self._state.holds(read)
            if not self._reads[key]:
                decision.reason = changed_read(read)
                return False
        return True

    def _outputs(self, decision: Decision, entry: Entry) -> Item | None:
        """Return the item that a row gives, or None where a blob of it is gone."""
        kept: dict[str, object] = {}
        for name, value in from_ports(entry.outputs).items():
            for stored in _leaves(value):
                if not self._is_there(stored) and not self._is_offered(entry.hash, stored):
                    decision.reason = f"its result {name} is no longer in the cache"
                    return None
            kept[name] = value
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
        """Look at a blob again: an attempt found it missing."""
        self._there.pop(blob, None)

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
        """Return what of a task's inputs has to come from the shared cache first."""
        if self._cache.shared is None:
            return []
        leaves = [leaf for each in decision.inputs.values() for leaf in _leaves(each.value)]
        return [leaf for leaf in leaves if leaf.blob is not None and not self._is_there(leaf)]

    def is_wanted(self, decision: Decision) -> bool:
        """Whether the task is to run: its `when` guard says so, and no input is missing.

        An optional output that was not made is missing, unless the input says `| None`.
        """
        for name, each in decision.inputs.items():
            if isinstance(each.value, Stored) and each.value.kind == "none":
                declared = decision.place.types.get(name)
                if declared is None or not declared.optional:
                    return False
        decl = decision.place.node.decl
        assert decl is not None
        when = decl.directives.when
        if when is None:
            return True
        return bool(evaluate_option("when", when.text, self.names(decision)))

    def resources(self, decision: Decision, attempt: int) -> Resources:
        """Return what an attempt asks for (directives may depend on inputs and attempt)."""
        if decision.place.constant is not None:
            return decision.place.constant
        assert decision.place.node.decl is not None
        directives = decision.place.node.decl.directives
        names = self.names(decision, attempt)

        def number(name: str) -> Any:
            held = getattr(directives, name)
            return evaluate_option(name, held.text, names) if isinstance(held, Dynamic) else held

        return Resources(**{name: number(name) for name in RESOURCES})

    def action(self, decision: Decision, attempt: int) -> str:
        """Return what a failed attempt (`decision.failed`) leads to: continue, stop, finish,
        ignore or retry."""
        assert decision.place.node.decl is not None
        directives = decision.place.node.decl.directives
        chosen, dynamic = directives.on_error, isinstance(directives.on_error, Dynamic)
        if isinstance(chosen, Dynamic):
            names = self.names(decision, attempt)
            chosen = str(evaluate_option("on_error", chosen.text, names))
        return action_after_failure(
            chosen, attempt=attempt, retries=directives.retries, dynamic=dynamic
        )

    def failed_as(self, decision: Decision, attempt: int) -> str | None:
        """Return what the row of an attempt says if it fails; None: only the failure tells."""
        assert decision.place.node.decl is not None
        if isinstance(decision.place.node.decl.directives.on_error, Dynamic):
            return None
        return "ignored" if self.action(decision, attempt) == "ignore" else "failed"

    def names(self, decision: Decision, attempt: int = 1) -> dict[str, object]:
        """Return what a directive's expression may name."""
        task = SimpleNamespace(
            attempt=attempt,
            index=format_position(decision.task[1]),
            process=decision.place.name,
            tag=decision.tag,
            hash=decision.hash,
            exit=decision.failed.exit,
            signal=decision.failed.signal,
            error=decision.failed.error,
        )
        return {**self.plain(decision.values()), "task": task}

    def lazily(self, decision: Decision) -> LazyInputs:
        """Return a task's inputs as templates see them, each decoded when it is asked for."""
        return LazyInputs(decision.values(), self.plain)

    def plain(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return inputs as templates and expressions see them: values decoded, files as such."""
        return {name: self._seen(held) for name, held in values.items()}

    def _seen(self, held: object) -> object:
        if isinstance(held, Stored) and held.kind != "value":
            return held
        if isinstance(held, FilePath):
            return SizedPath(held)
        return self._decoder.value(held)


class SizedPath(FilePath):
    """A file as a directive sees it: like a result of another task, it has a `size`."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Bytes; of a folder, those of all files in it."""
        if not self.is_dir():
            return int(self.stat().st_size)
        return sum(each.stat().st_size for each in self.rglob("*") if each.is_file())


class LazyInputs(Mapping[str, object]):
    """The inputs of a task as templates see them; each is decoded when it is asked for."""

    def __init__(
        self,
        values: Mapping[str, object],
        plain: Callable[[Mapping[str, object]], dict[str, object]],
    ) -> None:
        self._values, self._plain = values, plain

    def __getitem__(self, name: str) -> object:
        return self._plain({name: self._values[name]})[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _leaves(value: object) -> list[Stored]:
    if isinstance(value, Stored):
        return [value]
    if isinstance(value, Gathered):
        return [stored for member in value for stored in _leaves(member)]
    return []


def evaluate_default(text: str, folder: Path, is_path: bool) -> object:
    """Return the value of an input's default; a path default is a file beside the notebook.

    Raises:
        NbcacheError: the expression does not evaluate.
    """
    try:
        value: object = eval(text, {"Path": Path})
    except Exception as error:
        raise NbcacheError(f"default {text}: {type(error).__name__}: {error}") from error
    return folder / os.fspath(value) if is_path and isinstance(value, (str, Path)) else value
