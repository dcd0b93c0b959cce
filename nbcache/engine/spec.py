"""What crosses between the driver and a worker: processes, attempts, inputs, reports.

A `ProcessSpec` crosses once per worker, an `AttemptSpec` per attempt; both are plain data that
unpickle without importing anything of the user's (values travel as bytes inside). The report of an
attempt carries its row, which the worker has already appended to its journal: whoever reads a
report may rely on that.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from nbcache.codec.python import pickle_by_value
from nbcache.model.digest import Digest
from nbcache.model.fingerprint import Component
from nbcache.model.process import Input, Language, Output
from nbcache.model.row import AttemptRow, WatchedRead
from nbcache.model.value import Gathered, Stored
from nbcache.store.filestate import StatKey


class ModuleSource(NamedTuple):
    """A local module as it was when the fingerprint was made: what a worker has to find.

    `names` are the definitions in it that count; None: all of it does.
    """

    path: str
    digest: Digest
    names: frozenset[str] | None = None


@dataclass(slots=True)
class Plain:
    """A value that any interpreter unpickles: text, number, bool, None, bytes, lists of these."""

    value: object

    def __reduce__(self) -> tuple[Any, ...]:
        return (Plain, (self.value,))


@dataclass(slots=True)
class Pickled:
    """Any other value, pickled by the driver (protocol 5; notebook classes by value)."""

    data: bytes


@dataclass(slots=True)
class PickledFile:
    """A large value that several attempts take: the file of its pickle, kept until the run ends."""

    path: str


@dataclass(slots=True)
class FileInput:
    """A file or folder outside the store, by the digest of its content.

    `name` is the name under which the body sees it. `stat` is the state of the file to which the
    digest belongs (None for folders, which are looked at again as a whole). A remote file travels
    as the `Stored` that it became when it was fetched.
    """

    path: str
    digest: Digest | None
    name: str
    stat: StatKey | None = None


@dataclass(slots=True)
class Many:
    """Several inputs as one value: what a gathering operator or a `list[path]` gives.

    `fields` None makes a list; else the members are a whole item of a channel with these fields.
    """

    members: list[InputValue]
    fields: tuple[str | None, ...] | None = None


@dataclass(slots=True)
class Placed:
    """A file or stored result that is staged under another name: a path in the work directory."""

    value: FileInput | Stored
    name: str


InputValue = Plain | Pickled | PickledFile | FileInput | Stored | Many | Placed

_PLAIN = frozenset({str, int, float, bool, type(None), bytes})


def pack_value(value: object) -> Plain | Pickled:
    """Return a value as it travels to a worker.

    Raises:
        Exception: whatever pickle raises for a value that cannot travel.
    """
    kind = type(value)
    if kind in _PLAIN:
        return Plain(value)
    if kind in (list, tuple) and all(type(member) in _PLAIN for member in value):  # type: ignore[attr-defined]
        return Plain(value)
    if kind.__module__ in ("builtins", "numpy", "pathlib", "datetime", "decimal", "uuid"):
        try:
            data = pickle.dumps(value, protocol=5)
        except Exception:
            data = b""
        if data and b"__main__" not in data:
            return Pickled(data)
    return Pickled(pickle_by_value(value))


@dataclass(slots=True, kw_only=True)
class ProcessSpec:
    """What all attempts of one process of one run share. `key` names it for the workers.

    `payload` (of `identity.payload`) holds the captured names, unpickled anew for each attempt;
    `buffers` are the files of its large arrays, mapped read-only.
    `environ` is the whole environment that a task starts from (None: that of the worker), `env`
    and `secrets` are laid over it. `modules` maps the local modules that the fingerprint knows to
    their source (path, digest of its bytes), `packages` installed ones to a digest of their
    versions; `installed` is one of all that are installed. `imports` are modules to import before
    the captured names are unpickled. `shared` are the packages and tools that count in the hash:
    another machine has to have the same. `folder` is the notebook's, `run_folder` the run's own,
    in the cache, which is there until it ends. `companions` are the files of other local modules,
    of which the values that it takes may be: for a machine that does not see the kernel's. `passed`
    are outputs that are an input which the body does not assign: the driver hands it on. Only what
    the body may have changed in place is harvested.
    """

    key: str
    name: str
    language: Language
    body: str
    root: str
    interpreter: tuple[str, ...] = ()
    body_line: int = 1
    filename: str = "<process>"
    cells: Mapping[str, str] = field(default_factory=dict)  # file name -> "cell [4]"
    sources: Mapping[str, str] = field(default_factory=dict)  # file name -> text, for tracebacks
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    passed: tuple[str, ...] = ()
    inferred: bool = False  # the header had no `->`: figures and axes are shown and not kept
    payload: bytes = b""
    buffers: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()  # declared environment variables that have no value
    environ: Mapping[str, str] | None = None
    seed: int | None = None
    scratch: str | None = None
    helpers: Mapping[str, FileInput] = field(default_factory=dict)  # scripts beside the notebook
    before: tuple[str, ...] = ()  # lines of bash around a script
    after: tuple[str, ...] = ()
    sys_path: tuple[str, ...] = ()
    folder: str = ""
    modules: Mapping[str, ModuleSource] = field(default_factory=dict)
    packages: Mapping[str, Digest] = field(default_factory=dict)
    installed: Digest | None = None
    shared: tuple[Component, ...] = ()
    run_folder: str = ""
    companions: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    container: tuple[str, str] | None = None  # the engine's program and the image of a script
    watch: bool = True


@dataclass(slots=True, kw_only=True)
class AttemptSpec:
    """One attempt at one task.

    `row` holds everything that the driver knows of the attempt's row; the worker fills in the
    outcome. None: nothing is kept in the log (`--no-cache`, `try`). `memory` in bytes, `time` in
    seconds: limits that the executor enforces. `disk`: bytes that have to be free. `failed_as` is
    the status of the row if the attempt fails: "failed" or "ignored"; None where only the failure
    itself tells which (`on_error` is an expression): then the driver appends the row.
    """

    id: str
    task: str  # "fit[depth=8 rep=1]"
    process: str  # key of the ProcessSpec
    inputs: dict[str, InputValue] = field(default_factory=dict)
    position: str = ""
    index: int = 0
    hash: Digest | None = None
    cpus: int = 1
    memory: int | None = None
    time: float | None = None
    attempt: int = 1
    gpus: tuple[str, ...] = ()  # the ids of those that it has
    disk: int | None = None
    failed_as: str | None = "failed"
    row: AttemptRow | None = None

    def status_after(self, outcome: Ending) -> str:
        """Return the status of the row of an attempt that ended so."""
        return self.failed_as or outcome if outcome == "failed" else outcome

    def row_is_drivers(self, outcome: Ending) -> bool:
        """Whether the driver appends the row, when it has decided what the failure means."""
        return outcome == "failed" and self.failed_as is None

    def __reduce__(self) -> tuple[Any, ...]:
        row = None if self.row is None else _row_values(self.row)
        return (_rebuild_attempt, (_attempt_values(self), row))


# Values in the order of the fields, set through the slots: names would be half of the bytes, and
# making a frozen row by its keywords half of the time.
_ATTEMPT_NAMES = tuple(each.name for each in fields(AttemptSpec) if each.name != "row")
_ATTEMPT_SETTERS = [getattr(AttemptSpec, name).__set__ for name in _ATTEMPT_NAMES]
_attempt_values = attrgetter(*_ATTEMPT_NAMES)
_ROW_NAMES = tuple(each.name for each in fields(AttemptRow))
_ROW_PLACES = {name: place for place, name in enumerate(_ROW_NAMES)}
_ROW_SETTERS = [getattr(AttemptRow, name).__set__ for name in _ROW_NAMES]
_row_values = attrgetter(*_ROW_NAMES)


def _rebuild_attempt(values: tuple[Any, ...], row: tuple[Any, ...] | None) -> AttemptSpec:
    made = object.__new__(AttemptSpec)
    for set_value, value in zip(_ATTEMPT_SETTERS, values, strict=True):
        set_value(made, value)
    made.row = None if row is None else _row_of(row)
    return made


def _row_of(values: Sequence[Any]) -> AttemptRow:
    made = object.__new__(AttemptRow)
    for set_value, value in zip(_ROW_SETTERS, values, strict=True):
        set_value(made, value)
    return made


Ending = Literal["completed", "failed", "aborted"]


@dataclass(slots=True, kw_only=True)
class AttemptReport:
    """How an attempt ended.

    `row` is the finished row, already in the log unless that is the driver's to do (None where the
    spec had none, and where `missing` is set); it crosses as `columns`. `outputs` maps the names of
    the declared outputs, but the passed ones, to what is in the store. `where` is the line of the
    cell (1-based, with its text) that the error came from; `undeclared` says that the body came to
    its end, and made something else than its header declares.
    `missing` is the blob of an input that the store does not hold: its producer has to run again.
    `changed` names inputs whose content is not what the hash was made of: the result holds for
    this run and is never a hit (an evict row for the attempt's row is in the log). `overlooked` are
    folders too large to see all that libraries open there. `retire` says that the worker is of no
    more use.
    """

    id: str
    outcome: Ending
    outputs: dict[str, Stored | Gathered] = field(default_factory=dict)
    row: AttemptRow | None = None
    error: str | None = None
    traceback: str | None = None
    where: tuple[int, str] | None = None
    undeclared: bool = False
    exit: int | None = None
    signal: str | None = None
    watched: tuple[WatchedRead, ...] = ()
    missing: Digest | None = None
    changed: tuple[str, ...] = ()
    overlooked: tuple[str, ...] = ()
    workdir: str | None = None
    retire: bool = False
    unkept: bool = False  # the store could not keep it: the next ones would fare no better
    columns: dict[str, object] = field(default_factory=dict)  # what the worker filled in

    def __reduce__(self) -> tuple[Any, ...]:
        changes = {
            name: value
            for name, value in zip(_REPORT_NAMES, _report_values(self), strict=True)
            if value or value == 0
        }
        changes.pop("row", None)  # the kernel has its template, and `columns` is the rest
        return (_rebuild_report, (changes,))


_REPORT_NAMES = tuple(each.name for each in fields(AttemptReport))
_report_values = attrgetter(*_REPORT_NAMES)


def _rebuild_report(changes: dict[str, Any]) -> AttemptReport:
    return AttemptReport(**changes)


def finished_row(row: AttemptRow, columns: Mapping[str, object]) -> AttemptRow:
    """Return a row with columns filled in (`dataclasses.replace` costs three times as much)."""
    values = list(_row_values(row))
    for name, value in columns.items():
        values[_ROW_PLACES[name]] = value
    return _row_of(values)


def ended_columns(
    row: AttemptRow, report: AttemptReport, status: str, start_ns: int
) -> dict[str, object]:
    """Return what an attempt's row says of its end, which is now, and of why it failed."""
    complete_ns = time.time_ns()
    complete = complete_ns // 1000
    return {
        "status": status,
        "start": start_ns // 1000,
        "complete": complete,
        "duration": (complete - row.submit) / 1e6 if row.submit is not None else None,
        "realtime": (complete_ns - start_ns) / 1e9,
        "exit": report.exit,
        "signal": report.signal,
        "error": report.error and report.error.strip().partition("\n")[0][:500],
        "traceback": report.traceback,
        "workdir": report.workdir,
    }
