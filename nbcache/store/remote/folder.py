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
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from nbcache.errors import (
    AccessDeniedError,
    ObjectMissingError,
    RemoteStoreError,
    StoreError,
    StoreGoneError,
    StoreUnavailableError,
)
from nbcache.store.files import (
    FOLDER_RIGHTS,
    full_disk_error,
    is_full,
    new_ulid,
    open_up,
    remove,
    write_whole,
)
from nbcache.store.remote.patience import within
from nbcache.store.remote.protocol import (
    LOOKUP_S,
    SLOWEST_BYTES_PER_S,
    TEMPORARY,
    Entry,
    OnBytes,
    OnRequest,
    check_key,
    check_prefix,
)

T = TypeVar("T")

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_PIECE_BYTES = 8 << 20
_FILE_MODE = 0o644  # at most: objects are replaced and never changed
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_AWAY = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN)
_PATIENCE = 7  # times LOOKUP_S: disks that were asleep and automounters take seconds
_STALE_TRIES = 3
_LOOKED_AT_ONCE = 500  # files of a listing


class FolderStore:
    """Objects as files. Thread-safe; any number of processes and hosts may use it at once."""

    backend = "folder"

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        lookup_s: float = LOOKUP_S,
        on_request: OnRequest | None = None,
    ) -> None:
        self.root = Path(os.path.abspath(root))
        self.url = self.root.as_uri()
        self.atomic_create = True  # until the file system says that it has no links
        self._limit_s = _PATIENCE * lookup_s
        self._held_something = False
        self._count = on_request or (lambda doing, key: None)

    def put(self, key: str, data: bytes) -> None:
        self._count("put", check_key(key))
        self._do("write", key, lambda: self._publish(self._written(data), key), len(data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._count("create", check_key(key))

        def create() -> bool:
            new = self._written(data)
            try:
                return self._link(new, self._path(key))
            finally:
                remove(new)

        return self._do("create", key, create, len(data))

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self._count("get", check_key(key))

        def read() -> bytes:
            with open(self._path(key), "rb", buffering=0) as file:
                file.seek(start)
                if end is None:
                    return file.readall()
                return file.read(max(end - start, 0)) or b""

        data = self._do("read", key, read, 0 if end is None else end - start)
        self._held_something = True
        return data

    def head(self, key: str) -> Entry:
        self._count("head", check_key(key))
        return self._do("look at", key, lambda: _entry(key, os.stat(self._path(key))))

    def put_file(self, key: str, path: Path) -> None:
        self._count("put", check_key(key))

        size = os.stat(path).st_size
        self._do("write", key, lambda: self._publish(self._written(path), key), size)

    def get_file(
        self, key: str, path: Path, size: int | None = None, on_bytes: OnBytes | None = None
    ) -> int:
        self._count("get", check_key(key))
        if size is None:
            size = self._do("read", key, lambda: os.stat(self._path(key)).st_size)

        def read() -> int:
            with open(self._path(key), "rb") as source, open(path, "wb") as target:
                while data := source.read(_PIECE_BYTES):
                    target.write(data)
                    if on_bytes is not None:
                        on_bytes(len(data))
                return target.tell()

        return self._do("read", key, read, size)

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        self._count("list", check_prefix(prefix))
        self._do("list", prefix, self._check_there)  # an empty store and none at all are two things
        yield from self._walk(prefix, start_after.encode("utf-8"))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._count("delete", check_key(key))
            self._do("delete", key, partial(self._delete, self._path(key)))

    def unfinished(self) -> Iterator[Entry]:
        self._count("list", TEMPORARY)
        yield from self._do("list", TEMPORARY, lambda: tuple(self._scan_unfinished()))

    def give_up(self, uploads: Iterable[Entry]) -> None:
        for each in uploads:
            self._count("delete", TEMPORARY)
            path = self.root / TEMPORARY / each.version
            self._do("delete", TEMPORARY, partial(_remove_any, path))

    def server_time(self) -> int:
        self._count("time", "")

        def write() -> int:
            new = self._written(b"")
            try:
                return os.stat(new).st_mtime_ns // 1000
            finally:
                remove(new)

        return self._do("write", "", write)

    def close(self) -> None:
        """Nothing is held open."""

    # ------------------------------------------------------------------ inside

    def _path(self, key: str) -> Path:
        return self.root / key

    def _new_file(self) -> Path:
        """Return a name for a file being written; never makes the store itself."""
        folder = self.root / TEMPORARY
        if not folder.is_dir():
            self._check_there()
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
                open_up(folder, folder, FOLDER_RIGHTS)
        return folder / new_ulid()

    def _written(self, content: bytes | Path) -> Path:
        """Return a new file with these bytes, or those of a file."""
        new = self._new_file()
        try:
            if isinstance(content, bytes):
                write_whole(new, content, mode=_FILE_MODE)
            else:
                shutil.copyfile(content, new)
                open_up(new, new, _FILE_MODE)
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
        """Give a file its name; False: that is taken.

        Over sshfs a name that another has taken a moment ago is "not permitted", as all links are
        where there are none: whether there are is tried apart. A folder may refuse one by itself.
        """
        if self.atomic_create:
            try:
                self._in_its_folder(target, lambda: os.link(new, target))
                return True
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if self._has_links(new):
                    if target.exists():
                        return False
                    raise
            self.atomic_create = False
        if target.exists():
            return False
        self._in_its_folder(target, lambda: os.replace(new, target))
        return True

    def _has_links(self, new: Path) -> bool:
        """Whether a file can have two names here."""
        other = self._new_file()
        try:
            os.link(new, other)
        except OSError:
            return False
        remove(other)
        return True

    def _in_its_folder(self, target: Path, act: Callable[[], None]) -> None:
        """Act once the folder of `target` is there; whoever deletes may take it away again."""
        for _ in range(100):
            try:
                act()
                break
            except FileNotFoundError:
                self._check_there()
                with contextlib.suppress(FileNotFoundError):  # the same again
                    self._make_folder(target.parent)
        else:
            act()

    def _make_folder(self, folder: Path) -> None:
        """Make a folder, which others can use from the moment in which they see it."""
        if folder == self.root or folder.is_dir():
            return
        self._make_folder(folder.parent)
        new = self._new_file()
        os.mkdir(new)
        try:
            open_up(new, new, FOLDER_RIGHTS)
            os.rename(new, folder)
        except OSError:
            os.rmdir(new)
            if not folder.is_dir():  # else somebody was quicker
                raise

    def _walk(self, prefix: str, after: bytes) -> Iterator[Entry]:
        """Yield what lies below a prefix in the order of the keys' bytes.

        Looked at are some hundred files at a time: each such look has a time of its own.
        """
        found = self._do("list", prefix, lambda: self._scan(prefix, after))
        for start in range(0, len(found), _LOOKED_AT_ONCE):
            piece = found[start : start + _LOOKED_AT_ONCE]
            for key, entry in self._do("list", prefix, partial(_looked_at, prefix, piece)):
                if entry is None:
                    yield from self._walk(f"{key}/", after)
                else:
                    yield entry

    def _scan(self, prefix: str, after: bytes) -> Sequence[os.DirEntry[str]]:
        """Return what is in a folder and may come after a key, or hold what does, in order."""
        above = prefix.encode("utf-8")
        try:
            with os.scandir(self.root / prefix) as found:
                names = sorted(((above + _order(each), each) for each in found), key=itemgetter(0))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [
            each
            for name, each in names
            if name > after or (name.endswith(b"/") and after.startswith(name))
        ]

    def _scan_unfinished(self) -> Iterator[Entry]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / TEMPORARY) as found:
            for each in found:
                with contextlib.suppress(FileNotFoundError):  # it has just become an object
                    state = each.stat(follow_symlinks=False)
                    yield Entry("", state.st_size, each.name, state.st_mtime_ns // 1000)

    def _delete(self, path: Path) -> None:
        remove(path)
        with contextlib.suppress(OSError):  # it holds more, or somebody was quicker
            if path.parent != self.root:
                os.rmdir(path.parent)

    def _check_there(self) -> None:
        """See that the folder is there, and not as empty as a place is where nothing is mounted.

        Raises:
            OSError: it is not.
        """
        os.stat(self.root)
        if self._held_something and not os.listdir(self.root):
            raise FileNotFoundError(errno.ENOENT, "it is empty", str(self.root))

    def _do(self, doing: str, key: str, act: Callable[[], T], size: int = 0) -> T:
        """Act within a time, `size` being the bytes that it moves; explain what goes wrong."""

        def explained() -> T:
            try:
                return _steadily(act)
            except OSError as error:
                raise self._error(error, doing, key) from error

        limit_s = self._limit_s + size / SLOWEST_BYTES_PER_S
        try:
            return within(limit_s, explained)
        except TimeoutError as error:
            reason = f"no answer in {limit_s:.0f} seconds"
            raise StoreUnavailableError(self.url, doing, key, reason) from error

    def _error(self, error: OSError, doing: str, key: str) -> StoreError:
        reason = error.strerror or str(error)
        if error.errno in _AWAY:
            return StoreUnavailableError(self.url, doing, key, reason)
        try:
            self._check_there()
        except (FileNotFoundError, NotADirectoryError):
            return StoreGoneError(self.url, doing, key, "the folder is not there")
        except OSError:
            pass  # what went wrong says more
        if is_full(error):
            return full_disk_error(self.root, f"the object {key}")
        if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
            return ObjectMissingError(self.url, doing, key, "there is no such object")
        if error.errno in _DENIED:
            return AccessDeniedError(self.url, doing, key, reason)
        return RemoteStoreError(self.url, doing, key, reason)


def _steadily(act: Callable[[], T]) -> T:
    """Act; again where a file was replaced between two looks at it, as NFS and sshfs notice."""
    for _ in range(_STALE_TRIES - 1):
        try:
            return act()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return act()


def _remove_any(path: Path) -> None:
    try:
        remove(path)
    except (IsADirectoryError, PermissionError):  # the latter on macOS
        os.rmdir(path)


def _looked_at(
    prefix: str, found: Sequence[os.DirEntry[str]]
) -> Sequence[tuple[str, Entry | None]]:
    """Return the keys of what is in a folder; None stands for what is a folder itself."""
    keys: list[tuple[str, Entry | None]] = []
    for each in found:
        key = prefix + each.name
        with contextlib.suppress(ValueError, FileNotFoundError):  # none of ours, or just gone
            if each.is_dir(follow_symlinks=False):
                check_key(f"{key}/x")
                keys.append((key, None))
            elif each.is_file():
                keys.append((check_key(key), _entry(key, each.stat())))
    return keys


def _order(entry: os.DirEntry[str]) -> bytes:
    name = os.fsencode(entry.name)
    return name + b"/" if entry.is_dir(follow_symlinks=False) else name


def _entry(key: str, found: os.stat_result) -> Entry:
    version = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
    return Entry(key, found.st_size, version, found.st_mtime_ns // 1000)
