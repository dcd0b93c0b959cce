"""Small file operations that everything in the store is made of, and who this process is.

Keeps the rule that a file is there whole or not at all: bytes are written under `tmp/` and then
renamed or linked. Nothing here knows what the bytes mean.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import sys
import time
import weakref
from functools import cache
from pathlib import Path
from typing import Protocol

from nbcache.errors import CannotKeepError, NoRoomError, StoreError, command
from nbcache.model.ids import make_ulid, ulid_ms

FOLDER_RIGHTS = 0o7777 & ~stat.S_ISVTX
"""Where each may delete his own files only (sticky, as in /tmp), nobody tidies what others made."""


def new_ulid(*, after: str = "") -> str:
    """Return a new ULID from this machine's clock and randomness; one that sorts behind `after`,
    also where the clock has gone back since."""
    earliest = ulid_ms(after) + 1 if after else 0
    return make_ulid(max(time.time_ns() // 1_000_000, earliest), os.urandom(10))


@cache
def host_token() -> str:
    """Return this host's name as it stands in file names."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", socket.gethostname()) or "host"


def owned_name(kind: str) -> str:
    """Return a new name for a folder that this process has while it lives: KIND-HOST-PID-ULID."""
    return f"{kind}-{host_token()}-{os.getpid()}-{new_ulid()}"


def owner_of(name: str) -> int | None:
    """Return the process of this host that gave a folder its name; None: of another, or no such
    name."""
    parts = name.split("-")
    ours = len(parts) == 4 and parts[1] == host_token() and parts[2].isdigit()
    return int(parts[2]) if ours else None


def is_alive(pid: int) -> bool:
    """Say whether there is a process of this number on this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@cache
def boot_token() -> str:
    """Return 8 hex digits that are the same for all processes since this machine started."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(8).decode("ascii")
    except OSError:
        return _boot_session()[:8].lower()


def _boot_session() -> str:
    """Return the boot session's UUID on macOS; "00000000" where there is none."""
    if sys.platform != "darwin":
        return "00000000"
    import ctypes

    libc = ctypes.CDLL(None)
    text = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(64)
    if libc.sysctlbyname(b"kern.bootsessionuuid", text, ctypes.byref(size), None, 0) != 0:
        return "00000000"
    return text.value.decode("ascii")


def write_whole(
    path: Path, data: bytes | bytearray | memoryview, *, mode: int = 0o644, sync: bool = False
) -> None:
    """Create `path` (which must not exist) with `data`; the caller publishes it afterwards.

    mode: the rights that it gets, as far as its folder has them.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        open_up(descriptor, path, mode)
        write_all(descriptor, data)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`, in as many calls as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_file(path: Path) -> None:
    """Make a file's bytes survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make a folder's names survive a power cut, where the system can."""
    sync_file(path)


def open_lock(path: str | os.PathLike[str]) -> int:
    """Open a file that is there to be locked, and make it first where it is not.

    It holds nothing: whoever may write to its folder may lock it, whoever was first.
    """
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o666)
        open_up(descriptor, path, 0o666)
        return descriptor


def open_up(new: int | str | os.PathLike[str], path: str | os.PathLike[str], most: int) -> None:
    """Give something new at `path`, or its descriptor, the rights of its folder (at most these).

    Who may use a cache can do so whatever the umask of whoever else does: with 077, as many have
    it where several share a machine, one user's rows would make it unreadable for the others.
    """
    with contextlib.suppress(OSError):  # a file system without rights; another user's
        os.chmod(new, stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) & most)


def unlock(folder: Path) -> None:
    """Allow ourselves to move what lies in a folder of ours, where a task took that right away."""
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        with contextlib.suppress(OSError):  # another user's: the move then says so
            os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode) | stat.S_IRWXU)


def unlock_all(folder: Path) -> None:
    """Allow ourselves to read, move and delete all that lies in a folder of ours."""
    unlock(folder)
    for place, folders, files in os.walk(folder):  # from the top: each is open before it is read
        for path in (Path(place, name) for name in (*folders, *files)):
            with contextlib.suppress(OSError):  # as above
                if path.is_symlink():
                    continue  # it may lead to where we may not look
                if path.is_dir():
                    unlock(path)
                elif path.is_file() and not os.access(path, os.R_OK):
                    path.chmod(stat.S_IRUSR | stat.S_IWUSR)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder of a cache, and the one it is in, with the rights of what holds them, whatever
    the umask. Not what is above: a cache that was deleted is not made anew.

    Raises:
        FileExistsError: there is something. FileNotFoundError: the cache is gone.
    """
    try:
        os.mkdir(path)
    except FileNotFoundError:
        parent = os.path.dirname(path)
        with contextlib.suppress(FileExistsError):  # somebody was quicker
            os.mkdir(parent)
            open_up(parent, parent, FOLDER_RIGHTS)
        os.mkdir(path)
    open_up(path, path, FOLDER_RIGHTS)


def lock_left(path: Path) -> int | None:
    """Open and lock a file whose writer is gone; None where it has one, or somebody took it first.

    The lock lasts until the descriptor is closed.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:  # another user's; where locks do not ask for the right to write
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def remove(path: Path) -> None:
    """Delete a file that may be gone already."""
    path.unlink(missing_ok=True)


def read_only_error(root: Path, reason: str) -> StoreError:
    """Return the error for a write to a cache that may only be read."""
    return CannotKeepError(
        f"the cache {root} is read-only ({reason}), so nothing can be kept in it.\n"
        f"  Use another one: `{command('use FOLDER')}` (what is in this one is used there after "
        f"`{command(f'share {root} --read-only')}`); or make the folder writable."
    )


def full_disk_error(root: Path, what: str) -> StoreError:
    """Return the error for a write that found no space."""
    return CannotKeepError(
        f"the disk is full, so {what} cannot be kept in the cache {root}; what had finished is.\n"
        "  Free some space (`nbcache clean` does), then run again."
    )


def deleted_error(root: Path) -> StoreError:
    """Return the error for a write to a cache that is no longer there."""
    return CannotKeepError(
        f"the cache {root} was deleted while the run went on, so nothing can be kept in it.\n"
        "  Run again: the next run begins a new cache."
    )


def told_plainly(error: BaseException, root: Path, folder: Path | None = None) -> BaseException:
    """Return what tells people that the disk is full, or the cache in the folder `root` deleted
    or locked, where that made a write fail; else the error. `folder`: that a task ran in."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and is_full(cause):
        if folder is not None and _is_on_full_disk_of_its_own(folder, root):
            return NoRoomError(
                f"the disk of {folder.parent} is full, where the task ran.\n"
                "  Make room there, or run it elsewhere: --scratch FOLDER"
            )
        return full_disk_error(root, "a result")
    if isinstance(cause, FileNotFoundError) and not root.is_dir():
        return deleted_error(root)
    if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        folder = Path(str(cause.filename2 or cause.filename)).parent.resolve()
        root_folder = root.resolve()
        is_own = root_folder / "work" in folder.parents  # a task's, which may lock what it made
        if folder.is_relative_to(root_folder) and not is_own and not os.access(folder, os.W_OK):
            return read_only_error(root, cause.strerror or "permission denied")
    return error


def _is_on_full_disk_of_its_own(folder: Path, root: Path) -> bool:
    try:
        disk = os.statvfs(folder)
        if os.stat(folder).st_dev == os.stat(root).st_dev:
            return False
    except OSError:  # gone
        return False
    has_inodes = disk.f_favail > 0 or disk.f_files == 0  # some file systems do not count them
    return disk.f_bavail == 0 or not has_inodes


def is_full(error: OSError) -> bool:
    """Whether a write failed because there is no space left, or no more of this user's."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _ClosesInChild(Protocol):
    def close_in_child(self) -> None: ...


_owners: weakref.WeakSet[_ClosesInChild] = weakref.WeakSet()


def close_in_children(owner: _ClosesInChild) -> None:
    """Call `owner.close_in_child()` in every forked child.

    A lock belongs to an open file, which a child inherits: it would go on holding what its dead
    parent claimed.
    """
    _owners.add(owner)


def _close_all() -> None:
    for owner in list(_owners):
        owner.close_in_child()


os.register_at_fork(after_in_child=_close_all)
