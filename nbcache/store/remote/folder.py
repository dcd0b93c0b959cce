"""A store in a folder, on this disk or a shared one: a key is the path of a file.

A file is written under `tmp/` and then renamed (put) or linked (put_if_absent) to its name: it is
there whole or not at all, and of several links to one name one succeeds, over NFS as well.

Who may read and write the folder may do so with all that is made in it, whatever the umask
of whoever makes it: a team's folder is meant for all of the team.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from nbcache.errors import (
    AccessDeniedError,
    ObjectMissingError,
    RemoteStoreError,
    StoreError,
    StoreGoneError,
    StoreUnavailableError,
)
from nbcache.store.files import (
    full_disk_error,
    is_full,
    new_ulid,
    remove,
    sync_file,
    sync_folder,
    write_whole,
)
from nbcache.store.journal import Durability
from nbcache.store.remote.protocol import (
    TEMPORARY,
    Entry,
    OnBytes,
    OnRequest,
    check_key,
    check_prefix,
)

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_PIECE_BYTES = 8 << 20
_FILE_MODE = 0o644  # at most: objects are replaced and never changed
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_AWAY = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN)


class FolderStore:
    """Objects as files. Thread-safe; any number of processes and hosts may use it at once."""

    backend = "folder"

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        durability: Durability = "process",
        on_request: OnRequest | None = None,
    ) -> None:
        self.root = Path(os.path.abspath(root))
        self.url = self.root.as_uri()
        self.atomic_create = True  # until the file system says that it has no links
        self._sync = durability == "fsync"
        self._count = on_request or (lambda doing, key: None)

    def put(self, key: str, data: bytes) -> None:
        self._count("put", check_key(key))
        with self._translated("write", key):
            self._publish(self._written(data), key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._count("create", check_key(key))
        with self._translated("create", key):
            new = self._written(data)
            try:
                return self._link(new, self._path(key))
            finally:
                remove(new)

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self._count("get", check_key(key))
        with self._translated("read", key), open(self._path(key), "rb", buffering=0) as file:
            file.seek(start)
            if end is None:
                return file.readall()
            return file.read(max(end - start, 0)) or b""

    def head(self, key: str) -> Entry:
        self._count("head", check_key(key))
        with self._translated("look at", key):
            return _entry(key, os.stat(self._path(key)))

    def put_file(self, key: str, path: Path) -> None:
        self._count("put", check_key(key))
        with self._translated("write", key):
            new = self._new_file()
            try:
                shutil.copyfile(path, new)
                self._open_up(new, _FILE_MODE)
                if self._sync:
                    sync_file(new)
            except BaseException:
                remove(new)
                raise
            self._publish(new, key)

    def get_file(
        self, key: str, path: Path, size: int | None = None, on_bytes: OnBytes | None = None
    ) -> int:
        self._count("get", check_key(key))
        with self._translated("read", key):
            if on_bytes is None:
                shutil.copyfile(self._path(key), path)
            else:
                with open(self._path(key), "rb") as source, open(path, "wb") as target:
                    while data := source.read(_PIECE_BYTES):
                        target.write(data)
                        on_bytes(len(data))
            return os.stat(path).st_size

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        self._count("list", check_prefix(prefix))
        with self._translated("list", prefix):
            if not prefix:
                os.stat(self.root)  # an empty store and none at all are two things
            yield from self._walk(prefix, start_after.encode("utf-8"))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._count("delete", check_key(key))
            path = self._path(key)
            with self._translated("delete", key):
                remove(path)
            with contextlib.suppress(OSError):  # it holds more, or somebody was quicker
                if path.parent != self.root:
                    os.rmdir(path.parent)

    def unfinished(self) -> Iterator[Entry]:
        self._count("list", TEMPORARY)
        with self._translated("list", TEMPORARY):
            try:
                found = list(os.scandir(self.root / TEMPORARY))
            except FileNotFoundError:
                return
            for each in found:
                with contextlib.suppress(FileNotFoundError):  # it has just become an object
                    state = each.stat(follow_symlinks=False)
                    yield Entry("", state.st_size, each.name, state.st_mtime_ns // 1000)

    def give_up(self, uploads: Iterable[Entry]) -> None:
        for each in uploads:
            self._count("delete", TEMPORARY)
            path = self.root / TEMPORARY / each.version
            with self._translated("delete", TEMPORARY):
                try:
                    remove(path)
                except (IsADirectoryError, PermissionError):  # the latter on macOS
                    os.rmdir(path)

    def server_time(self) -> int:
        self._count("time", "")
        with self._translated("write", ""):
            new = self._written(b"")
            try:
                return os.stat(new).st_mtime_ns // 1000
            finally:
                remove(new)

    def close(self) -> None:
        """Nothing is held open."""

    # ------------------------------------------------------------------ inside

    def _path(self, key: str) -> Path:
        return self.root / key

    def _new_file(self) -> Path:
        """Return a name for a file being written; never makes the store itself."""
        folder = self.root / TEMPORARY
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
            self._open_up(folder)
        return folder / new_ulid()

    def _open_up(self, path: Path, most: int = 0o7777) -> None:
        """Give those rights to something new that the store's folder itself gives."""
        with contextlib.suppress(OSError):  # a file system without rights
            os.chmod(path, stat.S_IMODE(os.stat(self.root).st_mode) & most)

    def _written(self, data: bytes) -> Path:
        new = self._new_file()
        try:
            write_whole(new, data, sync=self._sync)
            self._open_up(new, _FILE_MODE)
        except BaseException:
            remove(new)
            raise
        return new

    def _publish(self, new: Path, key: str) -> None:
        target = self._path(key)
        try:
            self._in_its_folder(target, lambda: os.replace(new, target))
        except BaseException:
            remove(new)
            raise

    def _link(self, new: Path, target: Path) -> bool:
        try:
            self._in_its_folder(target, lambda: os.link(new, target))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self.atomic_create = False
            if target.exists():
                return False
            self._in_its_folder(target, lambda: os.replace(new, target))
        return True

    def _in_its_folder(self, target: Path, act: Callable[[], None]) -> None:
        """Act once the folder of `target` is there; whoever deletes may take it away again."""
        for _ in range(100):
            try:
                act()
                break
            except FileNotFoundError:
                os.stat(self.root)
                with contextlib.suppress(FileNotFoundError):  # the same again
                    self._make_folder(target.parent)
        else:
            act()
        if self._sync:
            sync_folder(target.parent)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder, which others can use from the moment in which they see it."""
        if folder == self.root or folder.is_dir():
            return
        self._make_folder(folder.parent)
        new = self._new_file()
        os.mkdir(new)
        try:
            self._open_up(new)
            os.rename(new, folder)
        except OSError:
            os.rmdir(new)
            if not folder.is_dir():  # else somebody was quicker
                raise

    def _walk(self, prefix: str, after: bytes) -> Iterator[Entry]:
        """Yield what lies below a prefix in the order of the keys' bytes."""
        try:
            with os.scandir(self.root / prefix) as found:
                entries = sorted(found, key=_order)
        except (FileNotFoundError, NotADirectoryError):
            return
        for each in entries:
            key = prefix + each.name
            try:
                inside = each.is_dir(follow_symlinks=False)
                check_key(f"{key}/x" if inside else key)
                if inside:
                    yield from self._walk(f"{key}/", after)
                elif key.encode("utf-8") > after and each.is_file():
                    yield _entry(key, each.stat())
            except (ValueError, FileNotFoundError):
                continue  # no object of ours, or gone while we list

    @contextlib.contextmanager
    def _translated(self, doing: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(error, doing, key) from error

    def _error(self, error: OSError, doing: str, key: str) -> StoreError:
        reason = error.strerror or str(error)
        if not os.path.isdir(self.root):
            return StoreGoneError(self.url, doing, key, "the folder is not there")
        if is_full(error):
            return full_disk_error(self.root, f"the object {key}")
        if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
            return ObjectMissingError(self.url, doing, key, "there is no such object")
        if error.errno in _DENIED:
            return AccessDeniedError(self.url, doing, key, reason)
        if error.errno in _AWAY:
            return StoreUnavailableError(self.url, doing, key, reason)
        return RemoteStoreError(self.url, doing, key, reason)


def _order(entry: os.DirEntry[str]) -> bytes:
    name = os.fsencode(entry.name)
    return name + b"/" if entry.is_dir(follow_symlinks=False) else name


def _entry(key: str, found: os.stat_result) -> Entry:
    version = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
    return Entry(key, found.st_size, version, found.st_mtime_ns // 1000)
