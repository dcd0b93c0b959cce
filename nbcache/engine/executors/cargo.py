"""What an attempt takes along to a machine that does not see the kernel's files, and as what it
finds it there.

A file lies there under the path that it has here, below a folder that stands for this machine (the
mirror); a blob, and what else the kernel keeps in its cache, in a cache there. Whoever carries
looks that a file is still the one that the hash was made of: `Item.state`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nbcache.engine.identity.modules import LocalModules
from nbcache.engine.spec import (
    AttemptSpec,
    FileInput,
    InputValue,
    Many,
    PickledFile,
    Placed,
    ProcessSpec,
)
from nbcache.errors import BlobMissingError, InputMissingError
from nbcache.model.digest import Digest
from nbcache.model.value import Stored
from nbcache.store.blobs import Blobs
from nbcache.store.cache import Cache
from nbcache.store.filestate import StatKey, stat_key


@dataclass(frozen=True, slots=True)
class Item:
    """A blob (`digest`), or a file, folder or link of the kernel's machine (`path`).

    `of` is the blob that names the result to which a blob belongs: another one for the files of a
    folder.
    `state` is that of the file whose content counts; `link` is where a link leads, and a folder
    has a `size` of -1.
    """

    path: str = ""
    digest: Digest | None = None
    of: Digest | None = None
    size: int = 0
    state: StatKey | None = None
    executable: bool = False
    link: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is made there, and nothing of it is carried."""
        return self.size < 0


def items_of_process(process: ProcessSpec) -> list[Item]:
    """Return what all attempts of a process need: captured data, scripts, local modules.

    Raises:
        OSError: a file is gone.
    """
    modules = (_module_file(each.path) for each in process.modules.values())
    files = [*process.buffers, *modules, *process.companions]
    helpers = [item for each in process.helpers.values() for item in _items(each, None)]
    return [*map(_file, dict.fromkeys(files)), *helpers]


def items_of_attempt(attempt: AttemptSpec, blobs: Blobs) -> list[Item]:
    """Return what the inputs of an attempt are made of. The cache in a folder is left out: it would
    be another one at each look, and as large as it is.

    Raises:
        OSError: a file is gone. InputMissingError, BlobDamagedError: a result is.
    """
    found = [item for each in attempt.inputs.values() for item in _items(each, blobs)]
    return list(dict.fromkeys(found))


def file_item(path: Path) -> Item:
    """Return a file as it is now."""
    return _file(str(path))


def _items(value: InputValue, blobs: Blobs | None) -> Iterator[Item]:
    if isinstance(value, Many):
        for member in value.members:
            yield from _items(member, blobs)
    elif isinstance(value, Placed):
        yield from _items(value.value, blobs)
    elif isinstance(value, PickledFile):
        yield _file(value.path)
    elif isinstance(value, FileInput):
        yield from _items_of_file(value, blobs)
    elif isinstance(value, Stored) and value.blob is not None and blobs is not None:
        yield from items_of_result(value, blobs)


def _items_of_file(value: FileInput, blobs: Blobs | None) -> Iterator[Item]:
    """Yield a file or folder; a link to it goes as in a folder that holds the link, which the same
    attempt may take."""
    path = os.path.abspath(value.path)
    while (target := _link(path)) is not None:
        leads_to = os.path.abspath(os.path.join(os.path.dirname(path), target))
        if os.path.realpath(leads_to) != os.path.realpath(path):  # a link further up counts there
            break
        yield Item(path, link=target)
        path = leads_to
    if os.path.isdir(path):
        yield from _items_of_folder(path, blobs)
    else:
        yield _file(path, value.stat)


def _items_of_folder(path: str, blobs: Blobs | None) -> Iterator[Item]:
    """Yield a folder and all below it, but the cache. A link that leads out of it goes as what it
    leads to."""
    yield Item(path, size=-1)
    for place, folders, names in os.walk(path):
        if blobs is not None:
            here = [(each, os.path.join(place, each)) for each in folders]
            folders[:] = [name for name, full in here if not os.path.samefile(full, blobs.root)]
        for name in (*folders, *names):
            full = os.path.join(place, name)
            if (target := _link(full)) is not None:
                yield Item(full, link=target)
            elif os.path.isdir(full):
                yield Item(full, size=-1)
            else:
                yield _file(full)


def _link(path: str) -> str | None:
    """Return where a link leads that goes as a link: not one to a file by its whole path."""
    if not os.path.islink(path):
        return None
    target = os.readlink(path)
    return None if os.path.isabs(target) and os.path.isfile(path) else target


def items_of_result(value: Stored, blobs: Blobs) -> Iterator[Item]:
    """Yield the blobs of a result that is not inline.

    Raises:
        InputMissingError: one is not there. BlobDamagedError: the list of a folder.
    """
    whole = value.blob
    assert whole is not None
    try:
        entries = blobs.open_tree(whole) if value.kind == "tree" else []
        for digest in (whole, *(entry.blob for entry in entries if entry.blob is not None)):
            path = blobs.path(digest)
            executable = os.access(path, os.X_OK)
            yield Item(digest=digest, of=whole, size=path.stat().st_size, executable=executable)
    except (BlobMissingError, FileNotFoundError):
        raise InputMissingError(whole) from None


def _file(path: str, state: StatKey | None = None) -> Item:
    executable = os.access(path, os.X_OK)
    size = os.stat(path).st_size
    return Item(path, size=size, state=state or stat_key(path), executable=executable)


def _module_file(path: str) -> str:
    """Return the file that a module is in: itself, or the archive that holds it."""
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def companions(of_processes: Iterable[str]) -> tuple[str, ...]:
    """Return the files of local modules of which a value may be that a task takes: of those that
    this process has imported, and of those (given) that the processes of a run know."""
    names = [name for name in LocalModules().imported() if name.partition(".")[0] != "nbcache"]
    imported = (getattr(sys.modules.get(name), "__file__", None) for name in names)
    files = dict.fromkeys([*imported, *map(_module_file, of_processes)])
    return tuple(file for file in files if file and os.path.isfile(file))


class Mirror:
    """Says where the files of the kernel's machine are found on this one: below `folder`; those
    that the kernel writes for a run, in its cache's folder for such (`there`), in that (`here`) of
    the cache that stands for it. Nothing else of a cache is anything but a file like others."""

    def __init__(self, folder: Path, *, there: str, here: Cache) -> None:
        """there: the folder of the kernel's cache, on its own machine."""
        self.folder = folder
        self._there = os.path.join(os.path.abspath(there), here.tmp.name) + os.sep
        self._here = here

    def place(self, path: str) -> Path:
        """Return where a file of the kernel's machine lies here."""
        absolute = os.path.abspath(path)
        if absolute.startswith(self._there):
            return self._here.tmp / absolute.removeprefix(self._there)
        return self.folder / absolute.lstrip(os.sep)

    def _moved(self, path: str) -> str:
        return str(self.place(path))

    def process(self, process: ProcessSpec) -> ProcessSpec:
        """Return a process as it is performed here."""
        files = [*(each.path for each in process.modules.values()), *process.companions]
        return replace(
            process,
            root=str(self._here.root),
            buffers=tuple(map(self._moved, process.buffers)),
            helpers={
                name: replace(each, path=self._moved(each.path), stat=None)
                for name, each in process.helpers.items()
            },
            sys_path=tuple(self._search_path(process.sys_path, files)),
            folder=self._moved(process.folder) if process.folder else "",
            run_folder=self._moved(process.run_folder),
            modules={
                name: each._replace(path=self._moved(each.path))
                for name, each in process.modules.items()
            },
        )

    def _search_path(self, folders: Iterable[str], files: list[str]) -> Iterator[str]:
        """Yield where modules are looked for: the kernel's own ones first, as they are there."""
        for folder in folders:
            prefix = os.path.abspath(folder).rstrip(os.sep) + os.sep
            if any(file.startswith(prefix) for file in files):
                yield self._moved(folder)
            yield folder

    def attempt(self, attempt: AttemptSpec) -> AttemptSpec:
        """Return an attempt with its inputs where they are here."""
        inputs = {name: self._input(each) for name, each in attempt.inputs.items()}
        return replace(attempt, inputs=inputs)

    def _input(self, value: InputValue) -> InputValue:
        if isinstance(value, Many):
            return Many([self._input(each) for each in value.members], value.fields)
        if isinstance(value, Placed) and isinstance(value.value, FileInput):
            return Placed(self._file(value.value), value.name)
        if isinstance(value, PickledFile):
            return PickledFile(self._moved(value.path))
        return self._file(value) if isinstance(value, FileInput) else value

    def _file(self, value: FileInput) -> FileInput:
        """Return a file of another machine, whose state there says nothing of the one here."""
        return replace(value, path=self._moved(value.path), stat=None)
