"""Results as their reader sees them: values decoded when read, files at a path with their name.

Nothing here starts a task. A result whose blob is gone raises ResultGone and names the way out.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nbcache.codec.registry import decode
from nbcache.engine.identity.identify import whole_item
from nbcache.errors import (
    BlobDamagedError,
    BlobMissingError,
    InputChangedError,
    MissingPackageError,
    NotRunError,
    ResultGone,
    StoreError,
    UsageError,
    command,
)
from nbcache.model.channel import Fields, Item
from nbcache.model.digest import Digest
from nbcache.model.ids import Position, format_position
from nbcache.model.task import Outcome
from nbcache.model.value import FilePath, Gathered, HoleCause, Record, RemoteFile, Stored
from nbcache.model.view import writable
from nbcache.plan.identity.canonical import summarise
from nbcache.plan.identity.confidential import is_confidential
from nbcache.store.cache import Cache
from nbcache.store.files import full_disk_error, is_full, new_ulid, remove
from nbcache.store.placing import allow_execution

Elements = Sequence[tuple[Position, Item | HoleCause]]
"""What a channel holds, in order: items and holes."""


@dataclass(frozen=True, slots=True)
class NotKept:
    """A value that a row names and the cache has never held; `what` says which.

    Where it is one of several outputs it stands in the item, so that the others can be read.
    """

    what: str

    def __repr__(self) -> str:
        return f"<{self.what}: passed on, and not kept>"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that no task made and one passed on: it lay at `place`, with this content."""

    what: str
    place: str
    content: Digest


def _again(of: str) -> str:
    """Say how a result of a task is made again: a run of all leaves out what nobody needs."""
    process, bracket, _ = of.partition("[")
    words = f"run {process.partition('-')[0]}" if bracket else "run"
    return f"Make it again with {command(words)}."


class Decoder:
    """Turns what travels into what a person or a function reads; remembers nothing."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def value(self, held: object, *, of: str = "a result") -> Any:
        """Return a plain value: `Stored` decoded, `Gathered` as a list, files as paths.

        Raises:
            ResultGone: the blob is no longer kept; `of` names the task.
        """
        if isinstance(held, NotKept):
            raise ResultGone(
                f"{of}: {held.what} is passed on, and the cache does not hold it.\n  {_again(of)}"
            )
        if isinstance(held, SourceFile):
            return self._source(held, of)
        if isinstance(held, Stored):
            return self._stored(held, of)
        if isinstance(held, Gathered):
            return [self.value(member, of=of) for member in held]
        if isinstance(held, Record):
            return Record(held.fields, [self.value(member, of=of) for member in held])
        return held

    def _stored(self, stored: Stored, of: str) -> Any:
        if stored.kind == "none":
            return None
        try:
            if stored.kind in ("file", "tree"):
                return self._path(stored)
            data = self._cache.blobs.bytes_of(stored)
            return decode(stored.codec, data, vouched=stored.vouched)
        except BlobMissingError as error:
            raise ResultGone(
                f"{of}: its result is {self._where_not(stored)}{_again(of)}"
            ) from error
        except BlobDamagedError as error:
            if self._cache.writable and stored.blob is not None:
                self._cache.blobs.set_aside(stored.blob)  # else every later run would trust it
            raise ResultGone(
                f"{of}: its result in the cache {self._cache.root} is damaged, and was put aside.\n"
                f"  {_again(of)}"
            ) from error

    def _where_not(self, stored: Stored) -> str:
        """Say where a result is, and does not come from; its way out follows."""
        here, shared, blob = self._cache, self._cache.shared, stored.blob
        where = f"no longer in the cache {here.root}"
        if shared is not None and blob is not None:
            members: list[str] = []
            if stored.kind == "tree" and here.blobs.has(blob):
                members = [each.blob for each in here.blobs.open_tree(blob) if each.blob]
            if shared.fetching.note_gone(blob, members):
                where += f", nor in the shared one {shared.store.url}"
            elif shared.fetching.is_away((blob, *members)):
                at = f"in the shared cache {shared.store.url}, which does not give it now"
                return f"{at}.\n  Read it again later. "
        return f"{where}.\n  "

    def _source(self, held: SourceFile, of: str) -> Path:
        with contextlib.suppress(OSError, InputChangedError):
            if self._cache.files.digest(held.place) == held.content:
                return FilePath(held.place)
        raise ResultGone(
            f"{of}: {held.what} was passed on, and the file {held.place} is not what it was then.\n"
            f"  {_again(of)}"
        )

    def _path(self, stored: Stored) -> Path:
        """Return a path with the file's own name and its content (derived, read-only).

        A folder appears whole: whoever makes it may be killed, or may not be the only one.
        """
        name = stored.name or "output"
        place = self._cache.root / "files" / stored.digest.replace(":", "-") / name
        assert stored.blob is not None
        if place.exists():
            with contextlib.suppress(BlobMissingError):  # it is a copy then
                self._cache.blobs.check(stored.blob, stored.kind)
            allow_execution(str(place), bool(stored.executable))  # an equal one need not have been
        else:
            new = self._cache.tmp / new_ulid()
            try:
                self._cache.blobs.materialise(
                    stored.blob, stored.kind, new, executable=stored.executable
                )
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(new, place)  # also a link whose blob was replaced
            except OSError as error:
                if not place.exists():  # else somebody else was quicker
                    raise self._no_place(name, error) from error
            finally:
                shutil.rmtree(new, ignore_errors=True)
                remove(new)
        return FilePath(place)

    def _no_place(self, name: str, error: OSError) -> StoreError:
        if is_full(error):
            return full_disk_error(self._cache.root, f"a copy of {name} for reading")
        return StoreError(
            f"the result {name} cannot be read: {error.strerror} ({error.filename}).\n  Copies for "
            f"reading lie in {self._cache.root / 'files'}, which has to be a folder that you may "
            "write to; what is there may be deleted."
        )


@dataclass(slots=True)
class TaskResult:
    """One task of a process as a run saw it."""

    position: Position
    label: str
    outcome: Outcome
    inputs: dict[str, object]
    outputs: tuple[object, ...] | None
    error: str | None = None
    hash: str = ""
    row: str = ""


class Results:
    """The results of one process in one run, in the order of its items; frozen to that run."""

    __nbcache_results__: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        fields: Sequence[str | None],
        tasks: Sequence[TaskResult],
        decoder: Decoder,
        *,
        restored: str = "",
    ) -> None:
        self.name, self.fields = name, tuple(fields)
        self.restored = restored  # the id of the run that they were restored of
        self.tasks = tuple(sorted(tasks, key=lambda task: task.position))
        self._decoder = decoder

    def _succeeded(self) -> list[TaskResult]:
        return [task for task in self.tasks if task.outputs is not None]

    def _read(self, task: TaskResult) -> Any:
        assert task.outputs is not None
        alone = len(task.outputs) == 1
        values = [
            held
            if isinstance(held, NotKept) and not alone
            else self._decoder.value(held, of=task.label)
            for held in task.outputs
        ]
        return whole_item(values, self.fields) if values else None

    @property
    def value(self) -> Any:
        """The result of the only task.

        Raises:
            NotRunError: no task succeeded. UsageError: there are several tasks.
        """
        done = self._succeeded()
        if not done:
            raise NotRunError(f"{self.name} has no result: {self._why_none()}")
        if len(done) > 1:
            raise UsageError(
                f"{self.name} has {len(done)} results: iterate over it, index it, or use "
                f"{self.name}.table()"
            )
        return self._read(done[0])

    def _why_none(self) -> str:
        if not self.tasks:
            return "no item reached it"
        outcomes = {task.outcome.value for task in self.tasks}
        return f"its {len(self.tasks)} tasks ended as {', '.join(sorted(outcomes))}"

    def __len__(self) -> int:
        return len(self._succeeded())

    def __iter__(self) -> Iterator[Any]:
        return (self._read(task) for task in self._succeeded())

    def __getitem__(self, index: int | slice) -> Any:
        if not isinstance(index, (int, slice)):
            raise TypeError(f"{self.name}[...] takes a number or a slice, not {index!r}")
        done = self._succeeded()
        if isinstance(index, slice):
            return [self._read(task) for task in done[index]]
        try:
            return self._read(done[index])
        except IndexError:
            results = "1 result" if len(done) == 1 else f"{len(done)} results"
            raise IndexError(f"{self.name} has {results}, no number {index}") from None

    def table(self) -> Any:
        """Return a pandas DataFrame: scalar inputs and outputs, one row per finished task.

        Scalar members of an output that is a dict are columns, too: `member`, or `output.member`
        where an input or an output has that name, or another output such a member.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingPackageError(
                f"{self.name}.table() makes a pandas DataFrame: {error}.\n"
                f"  pip install pandas; or, without it, list({self.name})"
            ) from None

        return pandas.DataFrame(self._rows())

    def _rows(self) -> list[dict[str, object]]:
        """Return the rows of the table; a column holds the same in each of them."""
        rows: list[dict[str, object]] = []
        members: list[dict[tuple[str, str], object]] = []  # a row's, by output and own name
        taken: set[str] = set()
        for task in self._succeeded():
            row: dict[str, object] = {}
            inside: dict[tuple[str, str], object] = {}
            for name, held in task.inputs.items():
                with contextlib.suppress(ResultGone):  # of an input that is known and not kept
                    self._add_scalar(row, name, held)
            columns = [self._column(number) for number in range(len(task.outputs or ()))]
            for column, held in zip(columns, task.outputs or (), strict=True):
                whole = self._add_scalar(row, column, held)
                for name, member in whole.items() if isinstance(whole, dict) else ():
                    if isinstance(name, str) and is_scalar(member):
                        inside[column, name] = member
            taken.update(task.inputs, columns)
            rows.append(row)
            members.append(inside)
        uses = Counter(name for _, name in {pair for each in members for pair in each})
        for row, inside in zip(rows, members, strict=True):
            for (column, name), member in inside.items():
                is_free = name not in taken and uses[name] == 1
                row[name if is_free else f"{column}.{name}"] = member
        return rows

    def _column(self, number: int) -> str:
        """Name a column: by its field, else by the channel, else by the field's number."""
        field = self.fields[number] if number < len(self.fields) else None
        return field or (self.name if len(self.fields) <= 1 else str(number))

    def _add_scalar(self, row: dict[str, object], name: str, held: object) -> object:
        """Add a value to a row if it is a scalar; return it, None where it was not looked at."""
        if isinstance(held, NotKept):
            return None
        if isinstance(held, Stored):
            if held.kind != "value" or (held.inline is None and held.size > 65_536):
                return None
            held = self._decoder.value(held)
        if is_scalar(held):
            row[name] = held
        return held

    def __repr__(self) -> str:
        done = len(self._succeeded())
        return f"{self.name}: {done} of {len(self.tasks)} tasks with a result"


class ChannelItems(Results):
    """The items of a channel, as a run or a look at the cache found them."""

    def _why_none(self) -> str:
        return "it has no items"

    def __repr__(self) -> str:
        return f"{self.name}: {len(self)} item{'' if len(self) == 1 else 's'}"


def channel_items(name: str, fields: Fields, elements: Elements, decoder: Decoder) -> ChannelItems:
    """Return the items among a channel's elements; holes are left out."""
    items = [
        TaskResult(position, f"{name}[{format_position(position)}]", Outcome.CACHED, {}, slot)
        for position, slot in elements
        if not isinstance(slot, HoleCause)
    ]
    return ChannelItems(name, fields or (), items, decoder)


def restored_text(name: str) -> str:
    """Return what is wrong where a pipeline meets results in place of a process."""
    return (
        f"{name}, which holds the results of a run, not a process.\n  Run the cell that declares "
        f"{name}: what it made is found in the cache."
    )


def is_scalar(value: object) -> bool:
    """Whether a value fits a cell of a table: text, numbers, dates, None, numpy scalars."""
    import datetime
    import decimal

    if isinstance(value, (FilePath, RemoteFile)):
        return False
    plain = (str, int, float, complex, bool, bytes, type(None), decimal.Decimal)
    if isinstance(value, (*plain, datetime.date, datetime.time, datetime.timedelta)):
        return True
    return type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0


def task_label(process: str, inputs: dict[str, object], position: Position, tag: str = "") -> str:
    """Return how people call a task: "fit[depth=8 trees=50 rep=1]", "quant[gut]", "fit[3]"."""
    if tag:
        return label_at(process, writable(tag))
    parts = []
    for name, held in inputs.items():
        text = None if is_confidential(name, held) else _short(held)
        if text is not None:
            parts.append(f"{name}={text}")
    if not parts:
        return undecided_label(process, position)
    return label_at(process, writable(" ".join(parts)))


def undecided_label(process: str, position: Position) -> str:
    """Return how people call a task of which no input is known."""
    return label_at(process, format_position(position))


def label_at(process: str, where: str) -> str:
    """Return how people call a task by its tag or position: "quant[gut]", "fit[3]", "index"."""
    return f"{process}[{where}]" if where else process


def _short(held: object) -> str | None:
    if isinstance(held, Stored):
        if held.kind in ("file", "tree"):
            return held.name
        if held.codec != "json" or held.inline is None or len(held.inline) > 40:
            return None
        held = json.loads(held.inline)
    if isinstance(held, (FilePath, RemoteFile)):
        return held.name
    if isinstance(held, (str, int, float, bool, type(None))):
        said = summarise if type(held) is int else repr  # Python prints no int of 4,301 digits
        text = held if isinstance(held, str) else said(held)
        return text if len(text) <= 30 else text[:29] + "…"
    return None
