"""Placing blobs where a task or a person wants them: reflink, else symlink, else copy.

Never a hard link: whoever writes to the placed file would write to the blob.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from nbcache.errors import BlobMissingError, StoreError
from nbcache.store.tree import TreeEntry

How = Literal["reflink", "symlink", "copy"]
HOW: tuple[How, ...] = ("reflink", "symlink", "copy")

_FICLONE = 0x40049409  # linux/fs.h
_without_reflink: set[int] = set()  # devices whose file system said that it cannot


def place_file(
    digest: str, source: str, target: Path, means: Iterable[How], executable: bool | None
) -> How:
    """Place the blob file `source` at `target`; return the means that worked."""
    try:
        mode = os.stat(source).st_mode
    except FileNotFoundError:
        raise BlobMissingError(f"the blob {digest} is not in the cache") from None
    has_bit = bool(mode & stat.S_IXUSR)
    wants_bit = has_bit if executable is None else executable
    for each in means:
        if each == "reflink" and _reflink(source, target):
            os.chmod(target, 0o555 if wants_bit else 0o444)
            return each
        if each == "symlink" and (has_bit == wants_bit or allow_execution(source, wants_bit)):
            os.symlink(source, target)
            return each
        if each == "copy":
            _copy(source, target, wants_bit)
            return each
    if has_bit != wants_bit:  # only a copy can have another mode than the blob
        _copy(source, target, wants_bit)
        return "copy"
    raise StoreError(f"cannot place {target}: none of {', '.join(means)} works here")


def place_tree(
    entries: Iterable[TreeEntry],
    path_of: Callable[[str], str],
    target: Path,
    means: tuple[How, ...],
) -> How:
    """Make a tree at `target`: real directories and links, files by `means`."""
    os.mkdir(target)
    used: How = "copy"
    for entry in entries:  # sorted by path, so that a directory comes before what is in it
        place = target / os.fsdecode(entry.path)
        if entry.kind == "directory":
            os.makedirs(place, exist_ok=True)
        elif entry.kind == "link":
            os.symlink(os.fsdecode(entry.target), place)
        else:
            assert entry.blob is not None
            used = place_file(entry.blob, path_of(entry.blob), place, means, entry.executable)
    return used


def _reflink(source: str, target: Path) -> bool:
    """Clone a file's blocks; False where the file system cannot."""
    device = os.stat(target.parent).st_dev
    if device in _without_reflink or not sys.platform.startswith("linux"):
        return False
    with open(source, "rb") as original:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.ioctl(descriptor, _FICLONE, original.fileno())
        except OSError as error:
            os.unlink(target)
            if error.errno != errno.EXDEV:
                _without_reflink.add(device)
            return False
        finally:
            os.close(descriptor)
    return True


def allow_execution(source: str, wanted: bool) -> bool:
    """Set a blob's executable bit, where that is what is missing and we may."""
    if not wanted:
        return False
    try:
        if not os.stat(source).st_mode & stat.S_IXUSR:
            os.chmod(source, 0o555)
    except OSError:
        return False
    return True


def _copy(source: str, target: Path, executable: bool) -> None:
    with open(source, "rb") as original, open(target, "xb") as out:
        shutil.copyfileobj(original, out, 1 << 20)
    os.chmod(target, 0o555 if executable else 0o444)
