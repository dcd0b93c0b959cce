"""Put a task's inputs in front of it: files read-only under their own names, values decoded.

A staged file is a reflink where the file system has them, else a copy where it is small, so that a
task which changes its input changes its own, else a symbolic link; never a hard link (its link
count is part of the original's state). Links are guarded in Python bodies (`linked`). Equal names
are told apart as `1/x`, `2/x`. When the attempt has ended the originals are looked at again:
`changed` names the inputs whose content is no longer what the hash was made of. Paths are given to
the body relative to its work directory, so that results do not depend on where that is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat as statmodes
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nbcache.codec.python import decode_pickle, load_pickle
from nbcache.codec.registry import decode, decode_file
from nbcache.engine.spec import FileInput, InputValue, Many, Pickled, PickledFile, Placed, Plain
from nbcache.errors import (
    BlobDamagedError,
    BlobMissingError,
    ChannelError,
    InputChangedError,
    InputMissingError,
)
from nbcache.model.digest import Digest
from nbcache.model.value import SAFE_CODECS, Record, Stored
from nbcache.store.cache import Cache
from nbcache.store.filestate import StatKey, hash_file, stat_key
from nbcache.store.placing import HOW, How, place_file

MAPPED = 64 << 20  # bytes
COPIED = 1 << 20  # bytes of an input up to which a copy is about as cheap as a link
COPIED_FILES = 100  # of a folder


@dataclass(slots=True)
class _Watched:
    """A staged original and its state when it was staged."""

    input: str
    path: str
    digest: Digest | None
    before: StatKey | dict[str, StatKey] | None


class Staging:
    """The staged inputs of one attempt in its work directory."""

    def __init__(self, cache: Cache, folder: Path, *, again: bool = False) -> None:
        self._cache, self._folder = cache, folder
        self._again = again  # the folder of an earlier attempt: what is there stays
        self._watched: list[_Watched] = []
        self._names: Counter[str] = Counter()
        self._numbers: Counter[str] = Counter()
        self._helpers: dict[str, StatKey] = {}  # as they were staged
        self.names: set[str] = set()  # relative paths of all that was staged
        self.modules: set[str] = set()  # that the classes of decoded values come from

    def stage(
        self, inputs: dict[str, InputValue], helpers: Mapping[str, FileInput] | None = None
    ) -> dict[str, object]:
        """Stage all inputs and return what the body sees: values, `Path`s, lists of these.

        `helpers` are scripts that the body calls by these names, unless an input has the name.

        Raises:
            InputMissingError: the store does not hold a blob.
            FileNotFoundError: an input file is gone.
            CodecError: a stored value cannot be decoded.
        """
        for value in inputs.values():
            if type(value) is not Plain:
                self._names.update(_file_names(value))
        staged = {name: self._one(name, value) for name, value in inputs.items()}
        for name, helper in (helpers or {}).items():
            if not os.path.lexists(self._folder / name):
                self._helper(name, helper)
        return staged

    def _one(self, name: str, value: InputValue) -> object:
        if type(value) is Plain:
            held = value.value
            return list(held) if type(held) is list else held
        if isinstance(value, Pickled):
            return decode_pickle(value.data, self.modules)
        if isinstance(value, PickledFile):
            with open(value.path, "rb") as file:
                return load_pickle(file, self.modules)
        if isinstance(value, Stored):
            return self._stored(name, value)
        if isinstance(value, Placed):
            place = self._exact_place(value.name)
            if isinstance(value.value, Stored):
                return self._stored(name, value.value, place)
            return self._file(name, value.value, place)
        if isinstance(value, Many):
            members = [self._one(name, member) for member in value.members]
            return members if value.fields is None else Record(value.fields, members)
        assert isinstance(value, FileInput)
        return self._file(name, value)

    def _stored(self, name: str, stored: Stored, place: Path | None = None) -> object:
        if stored.kind == "none":
            return None
        try:
            if stored.kind == "value":
                decoded = self._decoded(stored)
                self.modules.add(type(decoded).__module__)
                return decoded
            place = place or self._place(stored.name or name)
            self._materialise(name, stored, place)
        except (BlobMissingError, BlobDamagedError) as error:
            raise InputMissingError(stored.blob or stored.digest) from error
        return place.relative_to(self._folder)

    def _decoded(self, stored: Stored) -> object:
        """Decode a value; from `MAPPED` bytes on by mapping its file, unverified.

        What runs code when it is decoded is always verified: the signature is on its digest.
        """
        if stored.inline is not None:
            return decode(stored.codec, stored.inline, vouched=stored.vouched, modules=self.modules)
        assert stored.blob is not None
        blobs = self._cache.blobs
        if stored.size < MAPPED or stored.codec not in SAFE_CODECS:
            try:
                data = blobs.read(stored.blob)
                return decode(stored.codec, data, vouched=stored.vouched, modules=self.modules)
            except BlobDamagedError as error:
                blobs.set_aside(stored.blob)
                raise BlobMissingError(str(error)) from error
        if not blobs.has(stored.blob, stored.size):
            raise BlobMissingError(f"the blob {stored.blob} is not in the cache")
        return decode_file(stored.codec, blobs.path(stored.blob), vouched=stored.vouched)

    def _materialise(self, name: str, stored: Stored, place: Path) -> None:
        if stored.inline is not None:
            if self._stays(place):
                return
            place.write_bytes(stored.inline)
            place.chmod(0o444)
            return
        assert stored.blob is not None
        if self._stays(place):
            return
        how = _means(stored.size)
        self._cache.blobs.materialise(
            stored.blob, stored.kind, place, how=how, executable=stored.executable
        )
        if stored.kind == "file" and place.is_symlink():
            blob = os.path.realpath(place)
            self._watched.append(_Watched(name, blob, stored.digest, stat_key(blob)))

    def _file(self, name: str, value: FileInput, place: Path | None = None) -> Path:
        place = place or self._place(value.name)
        source = os.path.abspath(value.path)
        if os.path.isdir(source):
            before: StatKey | dict[str, StatKey] | None = folder_state(source)
        else:
            before = value.stat or stat_key(source)
        if not self._stays(place):
            stage_read_only(source, place)
        self._watched.append(_Watched(name, source, value.digest, before))
        return place.relative_to(self._folder)

    def _helper(self, name: str, helper: FileInput) -> None:
        """Stage a file that a script calls; of a copy it may make something of its own."""
        place = self._exact_place(name)
        self._file(name, helper, place)
        if not place.is_symlink():
            shutil.copystat(helper.path, place)
        self._helpers[name] = stat_key(place)

    def leave_written(self) -> None:
        """Count helpers that the script wrote anew as made by it, whatever it wrote."""
        for name, before in self._helpers.items():
            place = self._folder / name
            if place.exists() and stat_key(place)[:3] != before[:3]:  # but for a chmod
                self.names.discard(name)

    def _stays(self, place: Path) -> bool:
        """Whether an earlier attempt staged this already; a link that leads nowhere is removed."""
        if not self._again:
            return False
        if not place.exists():
            place.unlink(missing_ok=True)
        return os.path.lexists(place)

    def _place(self, name: str) -> Path:
        """Return where a file of this name goes: `1/x`, `2/x` where there are several."""
        name = os.path.basename(name.rstrip("/")) or "input"
        if self._names[name] > 1:
            self._numbers[name] += 1
            folder = self._folder / str(self._numbers[name])
            folder.mkdir(exist_ok=True)
            self.names.add(str(self._numbers[name]))
            place = folder / name
        else:
            place = self._folder / name
        self.names.add(str(place.relative_to(self._folder)))
        return place

    def _exact_place(self, name: str) -> Path:
        """Return where a file goes that is staged under a name of its own."""
        place = self._folder / name
        if os.path.lexists(place) and not self._again:
            raise ChannelError(f"two inputs would be staged as {name}; see --stage_as")
        place.parent.mkdir(parents=True, exist_ok=True)
        self.names.add(name)
        return place

    def is_made(self, name: str) -> bool:
        """Whether something of that name lies in the folder that was not staged there."""
        return name not in self.names and os.path.exists(self._folder / name)

    def linked(self) -> tuple[str, ...]:
        """Return the originals that are staged as links: whoever writes there writes to them."""
        return tuple(each.path for each in self._watched)

    def changed(self) -> tuple[str, ...]:
        """Return the names of inputs whose content is not what it was, each once."""
        return tuple(dict.fromkeys(each.input for each in self._watched if _differs(each)))


def _file_names(value: InputValue) -> Iterator[str]:
    if isinstance(value, FileInput):
        yield os.path.basename(value.name.rstrip("/"))
    elif isinstance(value, Stored) and value.kind in ("file", "tree"):
        yield os.path.basename((value.name or "").rstrip("/"))
    elif isinstance(value, Many):
        for member in value.members:
            yield from _file_names(member)


def _differs(watched: _Watched) -> bool:
    try:
        if isinstance(watched.before, dict):
            return folder_state(watched.path) != watched.before
        now = stat_key(watched.path)
        if now == watched.before:
            return False
        return watched.digest is None or hash_file(watched.path, now) != watched.digest
    except (OSError, InputChangedError):
        return True


def folder_state(path: str) -> dict[str, StatKey]:
    """Return the stat keys of all files below a folder, and of the folders themselves."""
    state = {".": (0, 0, 0, 0)}
    for place, folders, files in os.walk(path, followlinks=False):
        for name in files:
            full = os.path.join(place, name)
            with contextlib.suppress(OSError):
                found = os.lstat(full)
                key = (found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns)
                state[os.path.relpath(full, path)] = key
        for name in folders:
            state[os.path.relpath(os.path.join(place, name), path)] = (0, 0, 0, 0)
    return state


def stage_read_only(source: str, place: Path) -> None:
    """Make `source` appear at `place`: a reflink, else a copy of what is small, else a link."""
    if os.path.isdir(source):
        if _is_small_folder(source):
            shutil.copytree(source, place)
            return
        try:
            os.symlink(source, place)
        except OSError:
            shutil.copytree(source, place, symlinks=True)
        return
    size = os.stat(source).st_size  # a FileNotFoundError that names the file
    place_file(source, source, place, _means(size), None)


def _means(size: int) -> tuple[How, ...]:
    return ("reflink", "copy") if size <= COPIED else HOW


def _is_small_folder(source: str) -> bool:
    """Whether a folder is quickly copied; not with links in it, which may lead out of it."""
    size = count = 0
    for place, folders, files in os.walk(source):
        for name in (*folders, *files):
            found = os.lstat(os.path.join(place, name))
            size, count = size + found.st_size * (name in files), count + 1
            if size > COPIED or count > COPIED_FILES or statmodes.S_ISLNK(found.st_mode):
                return False
    return True
