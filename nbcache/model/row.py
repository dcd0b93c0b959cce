"""The rows of the log. What a column means is in docs/format.md; a change there comes first.

Times are integers: microseconds since 1970, UTC. Durations are seconds. Sizes are bytes.
`record()` gives what is stored (None and empty left out); `from_record` ignores unknown keys.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, ClassVar, Self

from nbcache.model.digest import Digest
from nbcache.model.fingerprint import Component
from nbcache.model.value import Stored

Record = dict[str, Any]  # what JSON holds


@dataclass(frozen=True, slots=True)
class Port:
    """A named input or output of a task with what is known of its content."""

    name: str
    stored: Stored

    def __reduce__(self) -> tuple[Any, ...]:
        return (Port, (self.name, self.stored))

    def record(self) -> Record:
        stored = self.stored
        record: Record = {
            "name": self.name,
            "digest": stored.digest,
            "kind": stored.kind,
            "codec": stored.codec,
            "size": stored.size,
        }
        if stored.blob is not None:
            record["blob"] = stored.blob
        if stored.inline is not None:
            record["inline"] = base64.b64encode(stored.inline).decode("ascii")
        if stored.name is not None:
            record["file"] = stored.name
        if stored.opaque:
            record["opaque"] = True
        if stored.executable is not None:
            record["executable"] = stored.executable
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any], vouched: bool = False) -> Port:
        inline = record.get("inline")
        return cls(
            record["name"],
            Stored(
                digest=record["digest"],
                kind=record["kind"],
                codec=record["codec"],
                size=record["size"],
                blob=record.get("blob"),
                inline=None if inline is None else base64.b64decode(inline),
                name=_file_name(record.get("file")),
                opaque=bool(record.get("opaque")),
                executable=record.get("executable"),
                vouched=vouched,
            ),
        )


def _file_name(name: str | None) -> str | None:
    """Return the name under which a result appears: never one that leads elsewhere.

    No row of ours has another; a row that somebody made up may.
    """
    if name is None or name in ("", ".", "..") or "/" in name or "\0" in name:
        return None
    return name if len(name.encode("utf-8", "surrogatepass")) <= _MOST_NAME_BYTES else None


_MOST_NAME_BYTES = 255  # what file systems take


@dataclass(frozen=True, slots=True)
class InputSummary:
    """An input of a task as its row remembers it: the digest counts, the rest is for people."""

    name: str
    digest: Digest
    summary: str  # a short repr, a file's name, "DataFrame 200 x 4"
    scalar: str | None = (
        None  # the value as JSON where it is a scalar (str, int, float, bool, None)
    )
    content: Digest | None = None  # of a file: its content's, without its name
    place: str | None = None  # where a file lay that no task had made: path or URL

    def __reduce__(self) -> tuple[Any, ...]:
        known = (self.name, self.digest, self.summary, self.scalar)
        return (InputSummary, (*known, self.content, self.place))

    def record(self) -> Record:
        record: Record = {"name": self.name, "digest": self.digest, "summary": self.summary}
        if self.scalar is not None:
            record["scalar"] = self.scalar
        if self.content is not None:
            record["content"] = self.content
        if self.place is not None:
            record["place"] = self.place
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> InputSummary:
        known = (record["name"], record["digest"], record["summary"], record.get("scalar"))
        return cls(*known, record.get("content"), record.get("place"))


@dataclass(frozen=True, slots=True)
class WatchedRead:
    """Something a body read that it had not declared: checked again at every later look-up."""

    kind: str  # file, folder, env, code, tool, ...: see docs/format.md
    name: str  # path, path, variable, module, program
    digest: Digest | None  # None: it was not there

    def record(self) -> Record:
        return {"kind": self.kind, "name": self.name, "digest": self.digest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What every row has. `id` is a ULID and unique; `at` is when it was made (microseconds): of an
    attempt, when it was submitted."""

    kind: ClassVar[str]

    id: str
    at: int
    run: str = ""
    session: int = 1

    def record(self) -> Record:
        record: Record = {"kind": self.kind, "id": self.id}
        hash = getattr(self, "hash", None)
        if hash is not None:
            record["hash"] = hash  # these three come first in a journal's line
        names, values = _names_of(self)
        for name, value in zip(names, values(self), strict=True):
            if value is None or (not value and type(value) in _EMPTY):
                continue
            if type(value) is tuple:
                value = [
                    member.record() if hasattr(member, "record") else member for member in value
                ]
            record[name] = value
        return record


_EMPTY = frozenset({str, tuple, dict})  # kinds whose empty value is left out; 0 and False are kept


_Names = tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]
_names: dict[str, _Names] = {}  # by kind of row


def _names_of(row: Row) -> _Names:
    """Return a row's columns and what gives their values: asked for by every row written."""
    found = _names.get(row.kind)
    if found is None:
        names = tuple(each.name for each in fields(row))
        found = _names[row.kind] = (names, attrgetter(*names))
    return found


_columns: dict[type[Any], frozenset[str]] = {}


def _known_of(kind: type[Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says of the columns of a kind of row: asked for by every row read."""
    known = _columns.get(kind)
    if known is None:
        known = _columns[kind] = frozenset(each.name for each in fields(kind))
    return {key: value for key, value in record.items() if key in known and value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow(Row):
    """The outcome of one attempt at a task. Column names follow Nextflow's trace."""

    kind: ClassVar[str] = "attempt"

    process: str
    position: str = ""
    tag: str = ""
    hash: Digest
    generation: int = 1
    status: str  # an Outcome's value
    attempt: int = 1
    exit: int | None = None
    signal: str | None = None
    error: str | None = None  # last line of the traceback, at most 500 characters
    traceback: str | None = None
    submit: int | None = None
    start: int | None = None
    complete: int | None = None
    duration: float | None = None  # complete - submit
    realtime: float | None = None  # complete - start
    peak_rss: int | None = None
    cpu_time: float | None = None
    rchar: int | None = None
    wchar: int | None = None
    host: str | None = None
    user: str | None = None
    executor: str | None = None
    workdir: str | None = None
    cpus: int | None = None
    memory: int | None = None
    time: float | None = None
    gpus: int | None = None
    disk: int | None = None
    components: tuple[Component, ...] = ()  # the task's own; shared ones are in the run row
    watched: tuple[WatchedRead, ...] = ()
    inputs: tuple[InputSummary, ...] = ()
    outputs: tuple[Port, ...] = ()
    shown: Stored | None = None  # captured output: a JSON list of chunks (docs/format.md)
    reason: str = ""  # why it ran, in one line

    def record(self) -> Record:
        record = Row.record(self)
        record["components"] = [component_record(each) for each in self.components]
        if self.shown is not None:
            record["shown"] = Port("shown", self.shown).record()
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any], vouched: bool = False) -> Self:
        values = _known_of(cls, record)
        values["components"] = tuple(map(component_from_record, record.get("components") or ()))
        values["watched"] = tuple(
            WatchedRead(each["kind"], each["name"], each.get("digest"))
            for each in record.get("watched") or ()
        )
        values["inputs"] = tuple(map(InputSummary.from_record, record.get("inputs") or ()))
        values["outputs"] = tuple(
            [Port.from_record(each, vouched) for each in record.get("outputs") or ()]
        )
        shown = record.get("shown")
        values["shown"] = None if shown is None else Port.from_record(shown, vouched).stored
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class UseRow(Row):
    """A hit: the rest is read through `cached_from`, the id of the attempt row it used."""

    kind: ClassVar[str] = "use"

    process: str
    position: str = ""
    tag: str = ""
    hash: Digest
    cached_from: str
    attempt: int = 0  # how many attempts of its own the task had before, in this run

    def record(self) -> Record:
        """As `Row.record`, spelled out: a run of hits writes one of these per task."""
        record: Record = {"kind": "use", "id": self.id, "hash": self.hash, "at": self.at}
        if self.run:
            record["run"] = self.run
        record["session"] = self.session
        record["process"] = self.process
        if self.position:
            record["position"] = self.position
        if self.tag:
            record["tag"] = self.tag
        record["cached_from"] = self.cached_from
        if self.attempt:
            record["attempt"] = self.attempt
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """What the tasks of one process of a run share; kept once, in the run's first row."""

    name: str
    components: tuple[Component, ...]
    source: str = ""
    cell: str = ""
    language: str = "python"
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def record(self) -> Record:
        return {
            "name": self.name,
            "components": [component_record(each) for each in self.components],
            "source": self.source,
            "cell": self.cell,
            "language": self.language,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "upstream": list(self.upstream),
            "labels": list(self.labels),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ProcessRecord:
        return cls(
            name=record["name"],
            components=tuple(map(component_from_record, record.get("components") or ())),
            source=record.get("source", ""),
            cell=record.get("cell", ""),
            language=record.get("language", "python"),
            inputs=tuple(record.get("inputs") or ()),
            outputs=tuple(record.get("outputs") or ()),
            upstream=tuple(record.get("upstream") or ()),
            labels=tuple(record.get("labels") or ()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow(Row):
    """A status change of a run; the first one carries all that the run began with."""

    kind: ClassVar[str] = "run"

    name: str
    status: str  # a RunStatus's value
    notebook: str | None = None
    parent: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)  # name -> repr
    options: Mapping[str, str] = field(default_factory=dict)  # see model.run_options
    targets: tuple[str, ...] = ()  # the processes that were asked for; none: all
    processes: tuple[ProcessRecord, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)  # an Outcome's value -> tasks
    own: int = 0  # of those cached: what equal tasks of this very run had made
    duration: float | None = None  # of a session that ended: seconds by a clock that nobody sets
    saved: float | None = None  # seconds of computing that hits on other runs saved
    error: str | None = None
    host: str | None = None
    user: str | None = None
    pid: int | None = None
    retention: str = ""  # how long its results are kept; empty: for ever
    outline: Record = field(default_factory=dict)  # what a picture shows beside the processes
    wiring: Mapping[str, str] = field(default_factory=dict)  # channel or process -> digest
    items: Mapping[str, int] = field(default_factory=dict)  # node of the outline -> items so far
    # The processes of whose results only other tasks took the bytes; None: nobody looked.
    handed_on: tuple[str, ...] | None = None
    settled: tuple[str, ...] = ()  # of whose earlier rows those of this session are all that count

    def record(self) -> Record:
        record = Row.record(self)
        record["parameters"], record["counts"] = dict(self.parameters), dict(self.counts)
        if self.options:
            record["options"] = dict(self.options)
        if self.handed_on is not None:  # none of them is an answer, too
            record["handed_on"] = list(self.handed_on)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        values = _known_of(cls, record)
        values["processes"] = tuple(map(ProcessRecord.from_record, record.get("processes") or ()))
        values["targets"] = tuple(record.get("targets") or ())
        if "handed_on" in values:
            values["handed_on"] = tuple(values["handed_on"])
        values["settled"] = tuple(record.get("settled") or ())
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRow(Row):
    """What an input was gathered from: its digest, and the files and results that are in it.

    Kept once per run, whoever takes it; without it nobody could tell what a gathered list held.
    """

    kind: ClassVar[str] = "list"

    hash: Digest  # the digest of the inputs that hold this list
    inputs: tuple[InputSummary, ...]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        values = _known_of(cls, record)
        values["inputs"] = tuple(map(InputSummary.from_record, record.get("inputs") or ()))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictRow(Row):
    """A tombstone for a hash (all its rows up to `generation`) or for one row."""

    kind: ClassVar[str] = "evict"

    hash: Digest | None = None
    row: str | None = None
    generation: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinRow(Row):
    """Keeps a run's or a hash's results from clean-up (or stops doing so)."""

    kind: ClassVar[str] = "pin"

    target: str
    pinned: bool = True
    reason: str = ""
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRow(Row):
    """A person's word that one hash means the same as another."""

    kind: ClassVar[str] = "trust"

    hash: Digest
    same_as: Digest
    revoked: bool = False
    reason: str = ""
    process: str = ""
    user: str = ""


ROW_KINDS: dict[str, type[Row]] = {
    each.kind: each for each in (AttemptRow, UseRow, RunRow, ListRow, EvictRow, PinRow, TrustRow)
}


def row_from_record(record: Mapping[str, Any], *, vouched: bool = False) -> Row | None:
    """Return the row a record holds, or None where its kind is of a later version.

    vouched: whether its word is taken, see `Stored`.
    """
    cls = ROW_KINDS.get(record.get("kind", ""))
    if cls is None:
        return None
    if cls is AttemptRow:
        return AttemptRow.from_record(record, vouched)
    if hasattr(cls, "from_record"):
        return cls.from_record(record)  # type: ignore[no-any-return]
    return cls(**_known_of(cls, record))


def component_record(component: Component) -> Record:
    """Return what is stored of a component."""
    record: Record = {
        "kind": component.kind,
        "name": component.name,
        "version": component.version,
        "digest": component.digest,
    }
    if component.summary:
        record["summary"] = component.summary
    if component.evidence is not None:
        record["evidence"] = component.evidence
    return record


def component_from_record(record: Mapping[str, Any]) -> Component:
    """Return the component that a record holds."""
    return Component(
        record["kind"],
        record["name"],
        record["version"],
        record["digest"],
        record.get("summary") or "",
        record.get("evidence"),
    )
