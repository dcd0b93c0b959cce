"""A process at its place in a run, and what is known of each of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nbcache.engine.identity.captured import Captured
from nbcache.engine.identity.identify import Identified
from nbcache.engine.running.shelf import Shelf
from nbcache.model.channel import CompiledNode, Item
from nbcache.model.digest import Digest
from nbcache.model.event import Resources, TaskKey
from nbcache.model.fingerprint import Component
from nbcache.model.process import Output, PortType, ProcessDecl, Script
from nbcache.model.task import Outcome
from nbcache.model.value import Gathered, Stored
from nbcache.plan.dataflow.retry import NOT_FAILED, FailedAttempt
from nbcache.plan.identity.fingerprint import SharedPart
from nbcache.store.entry import Entry


@dataclass(slots=True)
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
    asked: str = ""  # why all of its tasks run, whatever other runs have made
    said: dict[str, str] = field(default_factory=dict)  # what errors call an input
    name: str = field(init=False)
    decl: ProcessDecl = field(init=False)  # what its cell declares, with its inputs filled
    made: str | None = field(init=False)  # the output that is no input, where there is one such

    def __post_init__(self) -> None:
        assert self.node.decl is not None  # a place is of a process
        self.name, self.decl = self.node.name, self.node.decl
        made = [each.name for each in self.outputs if each.name not in self.passed]
        self.made = made[0] if len(made) == 1 else None

    def input_name(self, name: str) -> str:
        """Return how an error names an input."""
        text = self.said.get(name)
        if text is None:
            text = self.said[name] = f"process {self.decl.name!r}: input {name!r}"
        return text

    def each(self) -> tuple[Place, ...]:
        """Return the places that tasks run at: of several scripts one for each, else itself."""
        return tuple(place for _, place in self.scripts) or (self,)

    @property
    def is_kept(self) -> bool:
        """Whether other runs may use what its tasks make."""
        return self.decl.directives.cache != "off"

    @property
    def talks(self) -> bool:
        """Whether what its tasks print is shown while they run."""
        return self.decl.directives.debug

    @property
    def outputs(self) -> tuple[Output, ...]:
        return self.decl.outputs or ()


@dataclass(slots=True)
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
    gone: frozenset[Digest] = frozenset()  # blobs of that row that are no longer there
    refused: str = ""  # the same, where it is because nobody vouches for it
    own: tuple[Component, ...] = ()  # of the hash, beside the inputs
    failed: FailedAttempt = NOT_FAILED  # its last attempt in this run
    shelf: Shelf | None = None  # where its store folder holds its result, or will
    is_shared: bool = False  # the row stands in the shared cache, not yet in this one
    is_trusted: bool = False  # the row is of another hash: somebody took them for equal
    is_known_only: bool = False  # the log says what `outputs` were, and their bytes are gone
    stored: bool = False  # `outputs` were taken from there
    ports: dict[str, Stored | Gathered] = field(default_factory=dict)  # then for its row

    @property
    def is_hit(self) -> bool:
        """Whether nothing has to run for it."""
        return self.outputs is not None and (self.hash is not None or self.stored)

    def values(self) -> dict[str, object]:
        """Return the inputs as they travel."""
        return {name: each.value for name, each in self.inputs.items()}


def blobs_of(values: Iterable[object]) -> Iterator[Digest]:
    """Yield the blobs of what travels, each member of a list for itself."""
    for value in values:
        if isinstance(value, Gathered):
            yield from blobs_of(value)
        elif isinstance(value, Stored) and value.blob is not None:
            yield value.blob


def outcome_of_hit(decision: Decision) -> Outcome:
    """Return where the result of a hit came from."""
    return Outcome.STORED if decision.stored else Outcome.CACHED
