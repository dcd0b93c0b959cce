"""Store folders: results under names in a folder, taken in place of running a task.

What `--store FOLDER` means. A result that stands there is taken whatever it was made from: that is
what is asked for, and it is said each time. A note in `.nbcache-store/` says whose each result is
and whether it is whole, so that one half put there is never taken, and processes that share a
folder never take each other's. Files that came there otherwise (a download) are taken if all that
the header declares is there. Needs no cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from xxhash import xxh3_64_hexdigest

from nbcache.engine.work.harvest import NOTHING
from nbcache.errors import PublishError
from nbcache.model.process import Output
from nbcache.model.value import FilePath, Gathered, Stored
from nbcache.store.files import new_ulid, open_lock, write_whole

NOTES = ".nbcache-store"
_SETTLED_NS = 100_000_000  # after which a change of a folder has a time of its own
Held = Mapping[str, object]  # output -> what a task gives: FilePath or Stored, Gathered ones


class Note(TypedDict):
    """What stands in a note: whose result it is, of which hash, and which files it has."""

    process: str
    hash: str
    outputs: dict[str, list[str] | None]
    whole: bool


@dataclass(slots=True)
class Shelf:
    """The place of one task's result in a store folder.

    `patterns` says for each output of the task which file it is.
    """

    folder: Path
    process: str
    outputs: Sequence[Output]
    patterns: Mapping[str, str]
    hash: str = ""

    @property
    def key(self) -> str:
        """The name of the note: the same for the same files of the same process."""
        patterns = "\0".join(f"{name}\0{each}" for name, each in sorted(self.patterns.items()))
        return f"{self.process}-{xxh3_64_hexdigest(os.fsencode(patterns))}"

    def take(self) -> dict[str, object] | None:
        """Return what stands in the folder, or None where anything of it is missing."""
        note = _read(self.folder, self.key)
        if note is not None:
            return self._noted(note) if note["whole"] else None
        matching = {output.name: self._match(output) for output in self.outputs}
        others = self._claimed([name for each in matching.values() for name in each])
        found: dict[str, object] = {}
        for output in self.outputs:
            names = [each for each in matching[output.name] if each not in others]
            held = self._held(output, names)
            if held is None:
                return None
            found[output.name] = held
        return found

    def differs(self) -> bool:
        """Say whether what stands there was made from something else than the task has now."""
        note = _read(self.folder, self.key)
        return note is not None and note["hash"] != self.hash

    def put(self, held: Held, place: Callable[[Stored | FilePath, str, bool], int]) -> int:
        """Put a task's result into the folder; return how many files had to be placed.

        `place(what, target, overwrite)` makes one file or folder stand there, whole.

        Raises:
            PublishError: another process, or other inputs, have put a result under these names.
            OSError: the disk is full, or permission is missing.
        """
        notes = self.folder / NOTES
        notes.mkdir(parents=True, exist_ok=True)
        with _alone(notes / "lock"):
            before = _read(self.folder, self.key)
            if before is not None and before["whole"] and self._noted(before) is not None:
                if before["hash"] == self.hash:
                    return 0
                raise PublishError(
                    f"{self.folder} holds a result of {self.process} that was made from other "
                    "inputs.\n  Tell its tasks apart: --store FOLDER/{sample}, or the file's name"
                )
            outputs = {name: _names(each) for name, each in held.items()}
            names = [name for each in outputs.values() for name in each or ()]
            self._refuse_others(names)
            self._write(Note(process=self.process, hash=self.hash, outputs=outputs, whole=False))
            mine = {*(_files(before) if before is not None else ())}
            placed = 0
            for each in held.values():
                for member in _members(each):
                    name = member.name or ""
                    placed += place(member, str(self.folder / name), name in mine)
            self._write(Note(process=self.process, hash=self.hash, outputs=outputs, whole=True))
        return placed

    def _refuse_others(self, names: Sequence[str]) -> None:
        if len(set(names)) < len(names):
            twice = ", ".join(sorted({each for each in names if names.count(each) > 1}))
            raise PublishError(
                f"two files of a task of {self.process} have one name: {twice}\n  Files keep their "
                "names only: give them others, or declare the folder that they lie in"
            )
        for name, process in self._claimed(names).items():
            raise PublishError(
                f"{self.folder / name} was stored by process {process}.\n  Give "
                f"{self.process} a folder of its own, or remove the file to store this one"
            )

    def _claimed(self, names: Sequence[str]) -> dict[str, str]:
        """Return which of these files stand there for other tasks: name -> process. Where none of
        them is there, as in a first run, no note is read."""
        there = [name for name in names if os.path.lexists(self.folder / name)]
        return _stored(self.folder, there, but=self.key) if there else {}

    def _noted(self, note: Note) -> dict[str, object] | None:
        found: dict[str, object] = {}
        for output in self.outputs:
            names = note["outputs"].get(output.name, [])
            if names is None:
                found[output.name] = NOTHING
                continue
            if not all(os.path.exists(self.folder / name) for name in names):
                return None
            held = self._held(output, names)
            if held is None:
                return None
            found[output.name] = held
        return found

    def _held(self, output: Output, names: Sequence[str]) -> object | None:
        """Return an output's files as they travel; None where their number does not fit."""
        kind = output.type
        paths = [FilePath(self.folder / name) for name in names]
        if kind is not None and kind.depth:
            return Gathered(paths) if paths else None
        if not paths:
            return NOTHING if kind is not None and kind.optional else None
        return paths[0] if len(paths) == 1 else None

    def _match(self, output: Output) -> list[str]:
        found = glob.glob(self.patterns[output.name], root_dir=self.folder)
        kept = [os.path.normpath(name) for name in found]
        return sorted((name for name in kept if os.sep not in name), key=os.fsencode)

    def _write(self, note: Note) -> None:
        new = self.folder / NOTES / f".{new_ulid()}"
        try:
            write_whole(new, json.dumps(note, indent=1).encode("ascii"), sync=True)
            os.replace(new, self.folder / NOTES / f"{self.key}.json")
        finally:
            with contextlib.suppress(OSError):
                os.unlink(new)


class Keepers:
    """Whose stored results files are that others want to replace, as the notes beside them say.

    Notes are read again where their folder has changed since, or so shortly before they were read
    that its time might not tell.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, dict[str, str]]] = {}  # its time, name -> note's key

    def keeper(self, path: str, but: str) -> str | None:
        """Return the process of whose result a file is, or in whose folder; None where it is of
        none, or of the process `but`."""
        for folder in Path(path).parents:
            if (folder / NOTES).is_dir():
                key = self._keys(folder).get(Path(path).relative_to(folder).parts[0])
                process = key.rpartition("-")[0] if key is not None else but
                return process if process != but else None
        return None

    def let_go(self, path: str) -> None:
        """Take away the note of a result whose file is another's from now on."""
        folder, name = Path(path).parent, os.path.basename(path)
        if (folder / NOTES).is_dir() and (key := self._keys(folder).get(name)) is not None:
            (folder / NOTES / f"{key}.json").unlink(missing_ok=True)

    def _keys(self, folder: Path) -> dict[str, str]:
        changed, now = os.stat(folder / NOTES).st_mtime_ns, time.time_ns()
        known = self._known.get(folder)
        if known is not None and known[0] == changed:
            return known[1]
        keys = {
            name: path.stem
            for path in (folder / NOTES).glob("*.json")
            if (note := _read(folder, path.stem)) is not None
            for name in _files(note)
        }
        if now - changed > _SETTLED_NS:
            self._known[folder] = changed, keys
        return keys


def _stored(folder: Path, names: Collection[str], but: str | None = None) -> dict[str, str]:
    """Return which of these names in a folder notes tell of, but for one: name -> process."""
    found: dict[str, str] = {}
    for path in (folder / NOTES).glob("*.json"):
        note = _read(folder, path.stem) if path.stem != but else None
        if note is not None:
            found.update(dict.fromkeys(set(names).intersection(_files(note)), note["process"]))
    return found


def _read(folder: Path, key: str) -> Note | None:
    try:
        note: Note = json.loads((folder / NOTES / f"{key}.json").read_bytes())
    except (OSError, ValueError):
        return None
    return note


def _files(note: Note) -> Iterator[str]:
    return (name for each in note["outputs"].values() for name in each or ())


def _members(held: object) -> Iterator[Stored | FilePath]:
    for each in held if isinstance(held, Gathered) else [held]:
        if isinstance(each, FilePath) or (isinstance(each, Stored) and each.kind != "none"):
            yield each


def _names(held: object) -> list[str] | None:
    if isinstance(held, Stored) and held.kind == "none":
        return None
    return [each.name or "" for each in _members(held)]


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time put results into a folder."""
    descriptor = open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
