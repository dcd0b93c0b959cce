"""What an input of a task is: its digest for the hash, a summary for people.

One place decides whether a value counts as a file (by content and name), as a stored result (by
its content digest) or as a plain value (by its canonical form). Digests of values that many tasks
share are made once per run.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbcache.engine.identity.declared_types import fits_type
from nbcache.engine.identity.downloads import Downloads
from nbcache.engine.identity.missing_files import no_file, of_url
from nbcache.engine.identity.remote import RemoteFiles
from nbcache.errors import (
    ChannelError,
    InputChangedError,
    NoCanonicalFormError,
    StoreError,
    command,
)
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.process import PortType
from nbcache.model.row import InputSummary
from nbcache.model.value import FilePath, Gathered, KeptFolder, Record, RemoteFile, Stored
from nbcache.plan.identity.canonical import canonical_digest, scalar_json, summarise
from nbcache.plan.identity.confidential import HIDDEN
from nbcache.plan.identity.outline import outline
from nbcache.plan.language.stage_as import staged_names
from nbcache.store.filestate import FileTable, StatKey, TooLong, stat_key

_BY = {"standard": ", by size and time", "lenient": ", by size"}  # what a file counts by
_KEPT_AS = {"arrow": "table", "npy": "array", "pickle": "object"}  # how a result is encoded
_SMALL = (int, float, str, bool, type(None), bytes)


@dataclass(slots=True)
class Identified:
    """An input's value with its digest; `files` are what may not change while the task runs.

    For the lineage: `content` is the digest of a file without its name (None: it was not read),
    `place` where it lies unless a task made it, `members` the files and results inside of a list.
    Not to be changed; frozen, one would take twice as long to make, and every task makes some.
    """

    digest: Digest
    value: object
    summary: str
    scalar: str | None = None
    files: tuple[tuple[Path, Digest, StatKey | None], ...] = ()
    content: Digest | None = None
    place: str | None = None
    members: tuple[InputSummary, ...] = ()
    unnamed: tuple[Digest, ...] = ()  # of its files, as they count without their names
    staged: tuple[str, ...] | None = None  # where its files are staged; None: under their names
    fetched: dict[str, Stored] | None = None  # its remote files by URL, once they are in the cache
    outline: str | None = None  # its parts, for the reason of whoever runs for another one

    def confidential(self) -> Identified:
        """Return the same with nothing said of its value."""
        return replace(self, summary=HIDDEN, scalar=None)

    def row(self, name: str) -> InputSummary:
        """Return what the task's row keeps of it."""
        return InputSummary(name, self.digest, self.summary, self.scalar, self.content, self.place)

    def leaves(self) -> tuple[InputSummary, ...]:
        """Return the files and results in it: itself where it is one."""
        if self.members:
            return self.members
        return (self.row(""),) if isinstance(self.value, (Stored, FilePath, RemoteFile)) else ()


class Identifier:
    """Identifies the inputs of one run's tasks. Not thread-safe: the driver's thread owns it."""

    def __init__(
        self,
        files: FileTable,
        folder: Path,
        remote: RemoteFiles,
        leaf: Callable[[object], Digest | None] | None = None,
    ) -> None:
        self._files, self._folder, self._leaf, self._remotes = files, folder, leaf, remote
        self._kept = files.folder.parent  # files in the cache are results that were looked at
        # Keeps the object, so that ids stay unique. Files in it count by the mode.
        self._seen: dict[tuple[int, str, PortType | None], tuple[object, Identified]] = {}
        self._outlines: dict[Digest, str | None] = {}

    def identify(
        self,
        value: object,
        declared: PortType | None,
        mode: str,
        place: str,
        *,
        hidden: bool = False,
    ) -> Identified:
        """Return a value's identity; `place` says whose input it is, for errors.

        hidden: errors say nothing of the value.

        Raises:
            ChannelError: a declared path that does not exist, or a value of the wrong type.
            NoCanonicalFormError: the value cannot be identified.
        """
        if type(value) in _SMALL and (declared is None or not declared.is_path):
            self._check_type(value, declared, place, hidden)
            text = scalar_json(value)
            return Identified(canonical_digest(value), value, summarise(value), text)
        key = (id(value), mode, declared)  # what a body gets follows from the declared type
        memo = self._seen.get(key)
        if memo is not None and not isinstance(value, (FilePath, pathlib.Path, str)):
            return memo[1]
        found = self._identify(value, declared, mode, place, hidden)
        self._seen[key] = (value, found)
        return found

    def _identify(
        self, value: object, declared: PortType | None, mode: str, place: str, hidden: bool
    ) -> Identified:
        wants_path = declared is not None and declared.is_path
        if value is None and declared is not None and declared.optional:
            return Identified(canonical_digest(None), None, "None", "null")
        if wants_path and declared is not None and declared.depth == 1 and _is_one_path(value):
            return self._gathered([value], declared, mode, place, hidden)
        if isinstance(value, Stored):
            return self._stored(value, wants_path, place)
        if isinstance(value, RemoteFile):
            return self._remote(value, mode, place)
        if isinstance(value, FilePath) or (wants_path and isinstance(value, (str, os.PathLike))):
            return self._file(value, mode, place, hidden)
        if isinstance(value, Gathered) or (wants_path and isinstance(value, (list, tuple))):
            return self._gathered(value, declared, mode, place, hidden)
        if wants_path:
            raise ChannelError(
                f"{place} is declared as a path, but the item is {_said(value, hidden)} "
                f"({type(value).__name__})\n"
                "  a file comes from from_path(...), path(...) or as its name"
            )
        self._check_type(value, declared, place, hidden)
        members: list[InputSummary] = []

        def leaf(value: object) -> Digest | None:
            """Files and stored results inside of plain containers count as they do outside."""
            if isinstance(value, (FilePath, RemoteFile)):
                of_file = self._remote if isinstance(value, RemoteFile) else self._file
                found = of_file(value, "deep", place)
                members.extend(found.leaves())
                return found.digest
            return self._leaf(value) if self._leaf is not None else None

        try:
            digest = canonical_digest(value, leaf=leaf)
        except NoCanonicalFormError as error:
            raise error.at(place) from None
        text = scalar_json(value)
        return Identified(digest, value, summarise(value), text, members=tuple(members))

    def _stored(self, stored: Stored, wants_path: bool, place: str) -> Identified:
        if wants_path and stored.kind == "value":
            raise ChannelError(
                f"{place} is declared as a path, but the item is a value\n"
                "  take it without `: path`, or declare it as a path where it is made"
            )
        if stored.kind in ("file", "tree"):
            name = stored.name or ""
            return Identified(
                input_digest(stored),
                stored,
                f"{name} ({stored.size:,} B)",
                content=stored.digest,
                unnamed=(stored.digest,),
            )
        text = None
        if stored.codec == "json" and stored.inline is not None and len(stored.inline) < 200:
            shown = stored.inline.decode("utf-8")
            text = shown if shown[:1] not in "[{" else None
            return Identified(stored.digest, stored, shown, text)
        return Identified(
            stored.digest, stored, f"{_KEPT_AS.get(stored.codec, stored.codec)} {stored.size:,} B"
        )

    def _file(self, value: object, mode: str, place: str, hidden: bool = False) -> Identified:
        name = os.fspath(value)  # type: ignore[call-overload]
        if not name:
            raise ChannelError(f"{place} is declared as a path, but the item is an empty text")
        path = self._folder / name
        if path.name == "..":  # no name under which a body could see it
            path = path.resolve()
        stat = None
        if path.is_file():  # taken before the digest: who writes in between is seen at the end
            stat = stat_key(path)
        elif not path.is_dir():
            why = f"no file {HIDDEN}{of_url(name)}" if hidden else no_file(name, self._folder)
            raise ChannelError(f"{place}: {why}")
        elif self._kept.resolve().is_relative_to(path.resolve()):
            raise ChannelError(
                f"{place}: the folder {path} holds the cache ({self._kept}), which every task "
                "changes.\n  Name what the body reads in it, or keep the cache elsewhere: "
                f"{command('use FOLDER')}"
            )
        if isinstance(value, KeptFolder):
            digest = identity_digest(os.fsencode(path))
        else:
            try:
                digest = self._files.digest(path, mode=mode)  # type: ignore[arg-type]
            except StoreError as error:  # of a pipe in a folder, or a link out of it
                raise ChannelError(f"{place}: {error}") from None
            except OSError as error:
                raise ChannelError(f"{place}: cannot read {path}: {error.strerror}") from None
        return Identified(
            named_digest(digest, path.name),
            FilePath(path),
            f"{path.name} ({_size(path)}{_BY.get(mode, '')})",
            files=((path, digest, stat),),
            content=digest if mode == "deep" else None,
            place=None if self._kept in path.parents else str(path),
            unnamed=(digest,),
        )

    def _remote(self, value: RemoteFile, mode: str, place: str) -> Identified:
        if self._files.is_in_haste and not self._remotes.is_known(value):
            raise TooLong
        try:
            digest = self._remotes.digest(value, mode)
            size = self._remotes.size(value)
        except ChannelError as error:
            raise ChannelError(f"{place}: {error}") from error
        return Identified(
            named_digest(digest, value.name),
            value,
            f"{value.name} ({size}{_BY.get(mode, '')})",
            content=digest if mode == "deep" else None,
            place=value.place,
            unnamed=(digest,),
        )

    def outline(self, found: Identified) -> None:
        """Say of what a plain value consists, for a task that is to run; of one value once."""
        if type(found.value) in _SMALL or found.outline is not None or found.summary == HIDDEN:
            return
        if not found.leaves() and found.scalar is None:
            if found.digest not in self._outlines:
                self._outlines[found.digest] = outline(found.value, self._leaf)
            found.outline = self._outlines[found.digest]

    def expect(self, value: object) -> None:
        """Begin to fetch what of a value lies elsewhere and is not known; nobody waits here."""
        for each in file_leaves(value):
            if isinstance(each, RemoteFile):
                self._remotes.expect(each)

    @property
    def downloads(self) -> Downloads:
        """What is being fetched."""
        return self._remotes.downloads

    def fetch(self, found: Identified) -> None:
        """Bring the remote files of an input into the cache, for a task that is to run.

        Raises:
            ChannelError: one cannot be read.
            InputChangedError: one is not what was identified.
        """
        files = [each for each in file_leaves(found.value) if isinstance(each, RemoteFile)]
        if not files:
            return
        found.fetched = {each.url: self._remotes.fetch(each) for each in files}
        digests = {each.digest for each in found.leaves() if each.content is not None}
        for name, held in ((each.name, found.fetched[each.url]) for each in files):
            if digests and named_digest(held.digest, name) not in digests:
                raise InputChangedError(
                    f"{name} has another content than its server said.\n  Run again."
                )

    def _gathered(
        self, members: object, declared: PortType | None, mode: str, place: str, hidden: bool
    ) -> Identified:
        assert isinstance(members, (list, tuple))
        if declared is not None and declared.is_path:
            _check_paths(members, declared, place)
        self._check_type(members, declared, place, hidden)
        each_type = None
        if declared is not None and declared.depth:
            each_type = PortType(declared.base, declared.depth - 1, declared.optional)
        found = [self.identify(member, each_type, mode, place, hidden=hidden) for member in members]
        value: object = Gathered(each.value for each in found)
        summary = f"list of {len(found)}"
        if found and len(found) <= 3:
            summary += ": " + ", ".join(each.summary for each in found)[:60]
        files = tuple(file for each in found for file in each.files)
        return Identified(
            gathered_digest([each.digest for each in found]),
            value,
            summary,
            files=files,
            members=tuple(leaf for each in found for leaf in each.leaves()),
            unnamed=tuple(digest for each in found for digest in each.unnamed),
        )

    def _check_type(
        self, value: object, declared: PortType | None, place: str, hidden: bool
    ) -> None:
        if not fits_type(value, declared):
            plain = list(value) if isinstance(value, Gathered) else value
            raise ChannelError(
                f"{place} is declared as {declared}, but the item is {_said(plain, hidden)} "
                f"({type(plain).__name__})\n"
                "  declare the type that the items have, or convert them with .map(...)"
            )
        if isinstance(value, (list, tuple)):
            _check_count(declared, len(value), place)


def _check_paths(members: Sequence[object], declared: PortType, place: str) -> None:
    """Refuse a list where one path was declared, be it in the fields of a whole item."""
    is_list = any(isinstance(each, (list, tuple)) for each in members) and declared.depth == 1
    if isinstance(members, Record) and (is_list or not declared.depth):
        fields = ", ".join(name or "?" for name in members.fields)
        raise ChannelError(
            f"{place} is declared as {declared}, but the item has the fields {fields}\n"
            "  an input takes one of them by its name"
        )
    if not declared.depth:
        raise ChannelError(
            f"{place} is declared as one path, but the item is a list of {len(members)}; "
            "declare list[path]"
        )


def _said(value: object, hidden: bool) -> str:
    return HIDDEN if hidden else summarise(value)


def _is_one_path(value: object) -> bool:
    if isinstance(value, Stored):
        return value.kind in ("file", "tree")
    return isinstance(value, (str, os.PathLike, RemoteFile))


def _check_count(declared: PortType | None, count: int, place: str) -> None:
    misfit = None if declared is None else declared.misfit(count)
    if misfit is not None:
        raise ChannelError(f"{place}: {misfit}")


def staged_elsewhere(found: Identified, pattern: str, values: Mapping[str, object]) -> Identified:
    """Return an input whose files the body sees under the names that a pattern gives.

    Raises:
        OptionError: two files would have one name.
    """
    if not found.unnamed:
        return found
    own = [each.name or "" for each in file_leaves(found.value)]
    names = staged_names(pattern, own, values)
    named = [named_digest(digest, name) for digest, name in zip(found.unnamed, names, strict=True)]
    is_list = isinstance(found.value, Gathered)
    digest = gathered_digest(named) if is_list else named[0]
    summary = found.summary
    if summary != HIDDEN and not is_list and names[0] != own[0]:
        summary = f"{summary[:-1]}, as {names[0]})"
    return replace(found, digest=digest, staged=names, summary=summary)


def file_leaves(value: object) -> Iterator[Stored | FilePath | RemoteFile]:
    """Yield the files of an input, in the order in which they are staged."""
    if isinstance(value, (FilePath, RemoteFile)) or (
        isinstance(value, Stored) and value.kind in ("file", "tree")
    ):
        yield value
    elif isinstance(value, Gathered):
        for member in value:
            yield from file_leaves(member)


def gathered_digest(members: Sequence[Digest]) -> Digest:
    """Return the identity of a gathered list, by those of its members in order."""
    text = f"{len(members)}\0" + "\0".join(members)
    return identity_digest(b"gathered\0" + text.encode())


def input_digest(stored: Stored) -> Digest:
    """Return the digest that an input has which is a task's result."""
    if stored.kind in ("file", "tree"):
        return named_digest(stored.digest, stored.name or "")
    return stored.digest


def named_digest(content: Digest, name: str) -> Digest:
    """Return the identity of a file input: its content, and the name under which a body sees it."""
    raw = os.fsencode(name)
    return identity_digest(b"file\0%d\0" % len(raw) + raw + content.encode())


def whole_item(values: Sequence[object], fields: Sequence[str | None] | None) -> object:
    """Return a whole item as one value: the only field's, a tuple, or a record with names."""
    if len(values) == 1:
        return values[0]
    if fields is not None and any(fields):
        return Record(fields, values)
    return tuple(values)


def _size(path: Path) -> str:
    try:
        return f"{path.stat().st_size:,} B" if path.is_file() else "folder"
    except OSError:
        return "?"
