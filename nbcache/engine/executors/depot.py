"""Where a dask worker that does not see the kernel's files keeps what came from there: a cache of
its own, and a mirror of the kernel's files (`cargo`), in one folder that goes when the pool does.

Any thread may call it. What comes is told piece by piece and counts when its last piece is there; a
blob, when its digest is right.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbcache.engine.executors.cargo import Item, Mirror, items_of_result
from nbcache.engine.spec import AttemptReport
from nbcache.engine.work.reentry import DATA
from nbcache.engine.work.workplace import remove_folder
from nbcache.errors import BlobMissingError
from nbcache.model.digest import Digest
from nbcache.model.value import Gathered, Stored
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid, remove
from nbcache.store.filestate import StatKey, stat_key

PIECE = 4 << 20  # bytes that go at once
MOST_LEFT = 256 << 20  # bytes of a failed attempt's work directory that are sent to the kernel

_State = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an item, from `offset` on; `last` ends it."""

    item: Item
    offset: int
    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class Goods:
    """What an attempt has made, and is to be fetched at `address`: blobs, and the
    archive of its work directory, where that is kept."""

    address: str
    blobs: tuple[Item, ...]
    workdir: Item | None


class Depot:
    """The files of one pool."""

    def __init__(self, folder: Path, kernel_root: str) -> None:
        """kernel_root: the folder of the kernel's cache, on its own machine."""
        self._folder = folder
        folder.mkdir(parents=True, mode=0o700)  # the files below may be read by all
        self._coming = folder / "coming"
        self._coming.mkdir()
        self.cache = Cache.open(folder / "cache")
        self.mirror = Mirror(folder / "mirror", there=kernel_root, here=self.cache)
        self._links = (
            (f"{os.path.realpath(self.cache.root)}{os.sep}", f"{kernel_root}{os.sep}"),
            (f"{self.mirror.folder}{os.sep}", os.sep),
        )
        # Files that came, as they lie here (whatever path leads to them), and what they were there.
        self._files: dict[_State, tuple[StatKey | None, bool]] = {}
        self._parts: dict[Item, Path] = {}
        self._lock = threading.Lock()

    def lacks(self, wanted: Sequence[Item]) -> list[int]:
        """Return the numbers of the items that have to come; makes folders and links at once."""
        with self._lock:
            lacking = [number for number, item in enumerate(wanted) if not self._has(item)]
            known = {self.mirror.place(item.path) for item in wanted}
            for folder in (self.mirror.place(item.path) for item in wanted if item.is_folder):
                if folder.is_relative_to(self.cache.root):  # of which others need the rest
                    continue
                for place in folder.iterdir():  # what an earlier run saw in it may be gone by now
                    if place not in known:
                        _remove_all(place)
        return lacking

    def _has(self, item: Item) -> bool:
        if item.digest is not None:
            return self.cache.blobs.has(item.digest, item.size or None)
        place = self.mirror.place(item.path)
        if item.is_folder:
            if place.is_symlink():
                remove(place)
            _make_folder(place)
            return True
        if item.link is not None:
            self._link(item.link, place)
            return True
        try:
            return self._files.get(_state(place)) == (item.state, item.executable)
        except OSError:
            return False

    def _link(self, target: str, place: Path) -> None:
        """Make a link that leads to the same as on the kernel's machine."""
        if os.path.isabs(target):
            target = str(self.mirror.place(target))
        if not place.is_symlink() or os.readlink(place) != target:
            new = self._coming / new_ulid()
            os.symlink(target, new)
            _put(new, place)

    def take(self, pieces: Iterable[Piece]) -> None:
        """Take what comes.

        Raises:
            BlobDamagedError: it is not what it is called.
        """
        for piece in pieces:
            with self._lock:
                path = self._parts.setdefault(piece.item, self._coming / new_ulid())
            with open(path, "wb" if piece.offset == 0 else "r+b") as file:
                file.seek(piece.offset)
                file.write(piece.data)
            if piece.last:
                with self._lock:
                    del self._parts[piece.item]
                self._keep(piece.item, path)

    def _keep(self, item: Item, path: Path) -> None:
        if item.digest is not None:
            self.cache.blobs.keep_as(path, item.digest)
            if item.executable:
                self.cache.blobs.path(item.digest).chmod(0o555)
            return
        place = self.mirror.place(item.path)
        path.chmod(0o555 if item.executable else 0o444)
        with self._lock:
            _put(path, place)
            self._files[_state(place)] = item.state, item.executable

    def goods(self, report: AttemptReport, address: str) -> Goods:
        """Return what the kernel has to fetch of an attempt that has ended."""
        made = dict.fromkeys(self._made(report))
        workdir = None
        if report.workdir is not None:
            with contextlib.suppress(OSError):  # how it ended is told all the same
                workdir = self._pack(Path(report.workdir))
        return Goods(address, tuple(made), workdir)

    def _made(self, report: AttemptReport) -> Iterator[Item]:
        outputs: list[object] = [*report.outputs.values()]
        if report.row is not None:
            outputs.append(report.row.shown)
        while outputs:
            each = outputs.pop()
            if isinstance(each, Gathered):
                outputs.extend(each)
            elif isinstance(each, Stored) and each.blob is not None:
                yield from items_of_result(each, self.cache.blobs)

    def _pack(self, workdir: Path) -> Item | None:
        """Pack a failed attempt's folder as the kernel is to have it, its links leading there."""
        size = sum(
            os.lstat(os.path.join(place, name)).st_size
            for place, _, names in os.walk(workdir)
            for name in names
        )
        if size > MOST_LEFT:
            return None
        archive = self._coming / f"{new_ulid()}.tar"
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(workdir, arcname=".", filter=self._as_there)
        remove_folder(workdir)
        return Item(digest=self.cache.blobs.put_file(archive).blob)

    def _as_there(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.name.split("/")[:2] == [".", DATA] or not (
            member.isfile() or member.isdir() or member.issym() or member.islnk()
        ):
            return None
        for here, there in self._links:
            if member.issym() and member.linkname.startswith(here):
                member.linkname = there + member.linkname.removeprefix(here)
        return member

    def give(self, digest: Digest, offset: int) -> bytes:
        """Return the next piece of a blob; less than `PIECE` bytes at its end.

        Raises:
            BlobMissingError: it is not here.
        """
        try:
            with open(self.cache.blobs.path(digest), "rb") as file:
                file.seek(offset)
                return file.read(PIECE)
        except FileNotFoundError:
            raise BlobMissingError(f"the blob {digest} is gone") from None

    def clear(self) -> None:
        """Drop all that came and was made; nobody needs it any more."""
        self._files.clear()
        shutil.rmtree(self.mirror.folder, ignore_errors=True)
        for kept in (self.cache.blobs.folder, self.cache.tmp):
            for place, _, names in os.walk(kept):
                for name in names:
                    remove(Path(place, name))

    def close(self) -> None:
        """Delete everything."""
        self.cache.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _state(place: Path) -> _State:
    """Return what tells that the file behind a path is still the same.

    Raises:
        OSError: there is none.
    """
    size, mtime, inode, _ = stat_key(place)
    return size, mtime, inode


def _put(new: Path, place: Path) -> None:
    """Move a file or link to its place, instead of anything else that was there."""
    _make_folder(place.parent)
    if place.is_dir() and not place.is_symlink():
        _remove_all(place)
    os.replace(new, place)


def _make_folder(place: Path) -> None:
    """Make a folder, also where what is one now was a file or a link that led nowhere."""
    if not place.is_dir():
        _make_folder(place.parent)
        remove(place)
        place.mkdir()


def _remove_all(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        remove(place)
