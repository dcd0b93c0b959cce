"""What travels between tasks: paths that count by content, stored results, records.

A plain Python value in an item is itself. `FilePath` marks a path whose *content* counts, and
`Stored` an output that lives in the store and is decoded only when somebody reads it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nbcache.model.digest import Digest
from nbcache.model.url import shown


class FilePath(type(pathlib.Path())):  # type: ignore[misc]  # the platform's own path class
    """A path in an item whose content is what counts; otherwise an ordinary `pathlib.Path`."""

    __slots__ = ()


class KeptFolder(FilePath):
    """The work directory of a failed attempt: counts by its place, which is that attempt's own."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, repr=False)
class RemoteFile:
    """A file or folder behind an fsspec URL; counts by content and name, as one beside it does."""

    url: str  # as it was written: it may hold a password or a signature

    @property
    def name(self) -> str:
        """The name under which a body sees it."""
        first = self.url.partition("::")[0]
        if first.startswith(("http://", "https://")):
            first = first.partition("#")[0].partition("?")[0]
        return first.rstrip("/").rpartition("/")[2]

    @property
    def place(self) -> str:
        """Where it lies, as rows and people see it: without what could be a secret."""
        return shown(self.url)

    @property
    def hides_authority(self) -> bool:
        """Whether its place lacks some of its server or bucket, as a password may stand there."""
        return "…" in self.place.replace("?…", "").replace("#…", "")

    def __str__(self) -> str:
        return self.place

    def __repr__(self) -> str:
        return f"RemoteFile({self.place!r})"


SAFE_CODECS = frozenset({"json", "bytes", "npy", "npy-scalar", "arrow"})
"""The codecs that never execute code on decoding, whoever wrote the bytes."""

StoredKind = Literal["value", "file", "tree", "none"]
"""value: decoded by its codec; file, tree: a path; none: an optional output that was not made."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One output as the store keeps it.

    `digest` is the content digest (of the canonical form of the decoded value, of the file's
    bytes, of the tree): what downstream hashes use. `blob` names the stored bytes, None where
    they are `inline` (at most 4 kB). `size` is in bytes. `name` is the file name for paths.
    `opaque` says that the value has no canonical form and `digest` was made from its bytes.
    `executable` says whether a file is (None: only its blob tells): no part of what it is.
    `vouched` says that whoever made the bytes is trusted: without it nothing is decoded that could
    run code. It is a fact of this process, and never stored.
    """

    digest: Digest
    kind: StoredKind
    codec: str
    size: int
    blob: Digest | None = None
    inline: bytes | None = None
    name: str | None = None
    opaque: bool = False
    executable: bool | None = field(default=None, compare=False)
    vouched: bool = field(default=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # Said in full, since every task's inputs and outputs cross to its worker and back.
        known = (self.digest, self.kind, self.codec, self.size, self.blob, self.inline, self.name)
        return (Stored, (*known, self.opaque, self.executable, self.vouched))


class Gathered(list[object]):
    """What a gathering operator made: a list whose members may be `Stored`, never nested deeper
    than other `Gathered`. Its canonical form is that of its members' digests in order."""

    __slots__ = ()


class Record(tuple[object, ...]):
    """A whole item of a channel with several fields: a tuple whose fields are also attributes."""

    fields: tuple[str | None, ...]

    def __new__(cls, fields: Sequence[str | None], values: Sequence[object]) -> Record:
        self = super().__new__(cls, values)
        self.fields = tuple(fields)
        return self

    def __getattr__(self, name: str) -> object:
        fields = self.__dict__.get("fields", ())
        if name in fields:
            return self[fields.index(name)]
        raise AttributeError(
            f"the item has no field {name!r}; it has {', '.join(map(str, fields))}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (Record, (self.fields, tuple(self)))

    def __repr__(self) -> str:
        parts = (
            f"{name}={value!r}" if name else repr(value)
            for name, value in zip(self.fields, self, strict=True)
        )
        return f"({', '.join(parts)})"


class HoleCause:
    """Why a slot of a channel stays empty: the task that was to fill it, or another one above.

    `outcome` is the Outcome's value, `task` its label, `node` that of its process. `failed` is the
    key of the task whose attempts failed, where some did: its own, or that of its twin. `foreseen`:
    only in a plan, where a task that would run may fill the slot yet.
    """

    __slots__ = ("failed", "foreseen", "node", "outcome", "task")

    def __init__(
        self,
        outcome: str,
        task: str,
        node: int = -1,
        failed: tuple[int, tuple[int, ...]] | None = None,
        foreseen: bool = False,
    ) -> None:
        self.outcome, self.task, self.node, self.failed = outcome, task, node, failed
        self.foreseen = foreseen

    def __repr__(self) -> str:
        return f"HoleCause({self.outcome!r}, {self.task!r})"
