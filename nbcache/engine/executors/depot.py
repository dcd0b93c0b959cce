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

PIECE = 4 << 20  # bytes that go at once
MOST_LEFT = 256 << 20  # bytes of a failed attempt's work directory that are sent to the kernel


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
        self._coming = folder / "coming"
        self._coming.mkdir(parents=True, mode=0o700)
        self.cache = Cache.open(folder / "cache")
        self.mirror = Mirror(folder / "mirror", there=kernel_root, here=self.cache.root)
        self._links = (
            (f"{os.path.realpath(self.cache.root)}{os.sep}", f"{kernel_root}{os.sep}"),
            (f"{self.mirror.folder}{os.sep}", os.sep),
        )
        self._files: dict[str, Item] = {}
        self._parts: dict[Item, Path] = {}
        self._lock = threading.Lock()

    def lacks(self, wanted: Sequence[Item]) -> list[int]:
        """Return the numbers of the items that have to come; makes folders and links at once."""
        lacking = [number for number, item in enumerate(wanted) if not self._has(item)]
        known = {self.mirror.place(item.path) for item in wanted}
        for item in wanted:
            if item.is_folder:  # what an earlier run saw in it may be gone by now
                for place in self.mirror.place(item.path).iterdir():
                    if place not in known:
                        _remove_all(place)
        return lacking

    def _has(self, item: Item) -> bool:
        if item.digest is not None:
            return self.cache.blobs.has(item.digest, item.size or None)
        if item.is_folder:
            self.mirror.place(item.path).mkdir(parents=True, exist_ok=True)
            return True
        if item.link is not None:
            self._link(item.link, self.mirror.place(item.path))
            return True
        return self._files.get(item.path) == item and self.mirror.place(item.path).exists()

    def _link(self, target: str, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(target, place)

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
        place.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(0o555 if item.executable else 0o444)
        os.replace(path, place)
        self._files[item.path] = item

    def goods(self, report: AttemptReport, address: str) -> Goods:
        """Return what the kernel has to fetch of an attempt that has ended."""
        made = dict.fromkeys(self._made(report))
        workdir = None if report.workdir is None else self._pack(Path(report.workdir))
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


def _remove_all(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        remove(place)
