"""Which files processes open in some folders, whatever opens them: what Linux tells (fanotify).

A library of C or Rust opens files where no audit hook sees it. Since Linux 5.13 every process may
be told of the openings in folders that it names, and which were its own; those of others come
without a process, unless it is privileged. Nothing is asked meanwhile: the kernel keeps a queue.
Not everywhere: no macOS, few network file systems, no container that forbids it (Docker's do, as
they come). There `Openings.begin` or `look_at` say so.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

_INIT = 0x1 | 0x2 | 0x200 | 0x400 | 0x800  # close on exec, never wait, report folder and name
_ADD = 0x1 | 0x8  # to the marks, of a folder
_CHANGED, _MOVED_HERE, _MADE, _OPENED = 0x2, 0x80, 0x100, 0x20
_OF_FOLDER, _OF_MEMBERS, _OVERFLOW = 0x40000000, 0x08000000, 0x4000
_CHANGES = _CHANGED | _MOVED_HERE | _MADE
_MASK = _CHANGED | _MOVED_HERE | _MADE | _OPENED | _OF_FOLDER | _OF_MEMBERS
_HERE = -100  # AT_FDCWD
_LONGEST_HANDLE = 128
_HEAD = struct.Struct("=IBBHQii")  # length, version, reserved, length of head, mask, file, process
# Kind, padding, length, half of what names the file system, length and type of handle.
_NAMED = struct.Struct("=BBHI4xIi")
_AT_ONCE = 1 << 16  # bytes
_FOLDERS = 1000  # that are looked at below one
_ENTRIES = 50_000  # that are listed in search of them
_readlink = os.readlink  # a listener puts its own in the place of this one


class _Handle(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint),
        ("kind", ctypes.c_int),
        ("data", ctypes.c_ubyte * _LONGEST_HANDLE),
    )


class Opening(NamedTuple):
    """Something that happened to a file, or several things of one process at once."""

    path: str  # real
    process: int  # 0: another one, and it is not said which
    is_folder: bool
    opened: bool
    changed: bool  # written to, made, or put in the place of another


class Openings:
    """A queue of what happens in the folders that are looked at; of one process, for its life."""

    def __init__(self, libc: ctypes.CDLL, descriptor: int) -> None:
        self._libc, self._descriptor = libc, descriptor
        self._process = os.getpid()
        self._link = f"/proc/self/fd/{descriptor}"
        self._folders: dict[bytes, str] = {}  # by file system and handle, as events name them
        self._tops: dict[str, str] = {}  # as they were named; real
        self._below: dict[str, Callable[[str], bool]] = {}
        self._listed: set[str] = set()  # new folders, by this search
        self._cut: set[str] = set()  # real tops below which not all is looked at
        self.is_whole = True
        """Whether nothing was lost since `begin_anew`: not too much happened, all folders that were
        asked for are looked at, and nobody closed the queue."""
        self.overlooked: set[str] = set()
        """Folders that were asked for since, below which not all are looked at."""

    @classmethod
    def begin(cls) -> Openings | None:
        """Return a queue that looks at nothing yet; None: the system offers none."""
        if sys.platform != "linux":
            return None
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = libc.fanotify_init(_INIT, os.O_RDONLY)
            libc.fanotify_mark.argtypes = (
                ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p,
            )  # fmt: skip
            libc.name_to_handle_at.argtypes = (
                ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int,
            )  # fmt: skip
        except (OSError, AttributeError):
            return None
        found = cls(libc, descriptor) if descriptor >= 0 else None
        return found if found is not None and found.is_there() else None

    def is_there(self) -> bool:
        """Whether the queue is still what its descriptor stands for: a body may close any, and its
        number then soon is another file's, where a read may wait for ever."""
        try:
            return _readlink(self._link) == "anon_inode:[fanotify]"
        except OSError:
            return False

    def look_at(self, folder: str) -> bool:
        """Look at what happens to the files of a folder from now on; False: it cannot be told."""
        name = os.fsencode(folder)
        handle, mount = _Handle(_LONGEST_HANDLE), ctypes.c_int()
        ctypes.set_errno(0)
        try:
            system = os.statvfs(folder).f_fsid
        except OSError:
            return False
        if self._libc.fanotify_mark(self._descriptor, _ADD, _MASK, _HERE, name):
            return False
        if self._libc.name_to_handle_at(_HERE, name, ctypes.byref(handle), ctypes.byref(mount), 0):
            return False
        key = _key(system, handle.kind, bytes(handle.data[: handle.size]))
        self._folders[key] = os.path.realpath(folder)
        return True

    def look_below(self, top: str, passed: Callable[[str], bool]) -> None:
        """Look at a folder and those in it, also those that come later, but for `passed` and hidden
        ones: 1,000 at most, those next to it first."""
        real = self._tops.get(top)
        if real is None:
            self._tops[top] = real = os.path.realpath(top)
            if real not in self._below:
                self._below[real] = passed
                self._look_below(real, real, passed)
        if real in self._cut:
            self.is_whole = False
            self.overlooked.add(real)

    def _look_below(self, folder: str, top: str, passed: Callable[[str], bool]) -> None:
        waiting, entries = [folder], 0
        for number, each in enumerate(waiting):  # grows meanwhile
            if number >= _FOLDERS or entries > _ENTRIES:
                self._cut.add(top)
                return
            if not self.look_at(each):
                if ctypes.get_errno() == errno.ENOSPC:  # so many folders may a user look at
                    self._cut.add(top)
                    return
                continue  # it has gone, is another's, or of a file system that does not tell
            self._listed.add(each)
            try:
                with os.scandir(each) as found:
                    for entry in found:
                        entries += 1
                        if entry.is_dir(follow_symlinks=False) and not _is_aside(entry, passed):
                            waiting.append(entry.path)
            except OSError:
                continue

    def begin_anew(self) -> bool:
        """What was lost until now does not matter; False: the queue is no more."""
        self.overlooked = set()
        self.is_whole = self.is_there()
        return self.is_whole

    def forget(self) -> None:
        """What happened until now does not matter."""
        was_whole, cut = self.is_whole, len(self._cut)
        is_there = self.is_there()
        if is_there:
            for _ in self._take():
                pass
        self._listed = set()
        self.is_whole = was_whole and len(self._cut) == cut and is_there

    def take(self) -> Iterator[Opening]:
        """Yield what happened since the last time, in its order."""
        if os.getpid() != self._process:
            return  # a forked child, whose parent will ask
        if self.is_there():
            yield from self._take()
        else:
            self.is_whole = False

    def _take(self) -> Iterator[Opening]:
        while True:
            try:
                data = os.read(self._descriptor, _AT_ONCE)  # of this thread alone
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self.is_whole = False
                return
            yield from self._read(data)

    def _read(self, data: bytes) -> Iterator[Opening]:
        at = 0
        while at < len(data):
            length, _, _, head, mask, _, process = _HEAD.unpack_from(data, at)
            start, at = at + head, at + length
            if mask & _OVERFLOW:
                self.is_whole = False
                continue
            _, _, size, system, handle_size, kind = _NAMED.unpack_from(data, start)
            name_at = start + _NAMED.size + handle_size
            handle = data[start + _NAMED.size : name_at]
            folder = self._folders.get(_key(system, kind, handle))
            if folder is None:
                continue
            path = os.path.join(folder, os.fsdecode(data[name_at : start + size].split(b"\0")[0]))
            is_folder, changed = bool(mask & _OF_FOLDER), bool(mask & _CHANGES)
            if is_folder:
                path = os.path.normpath(path)  # "/folder/."
                if changed:
                    self._look_at_new(path)
                if path in self._listed and process == self._process:
                    continue
            yield Opening(path, process, is_folder, bool(mask & _OPENED), changed)

    def _look_at_new(self, folder: str) -> None:
        for top, passed in self._below.items():
            if folder.startswith(top + os.sep) and not passed(folder + os.sep):
                self._look_below(folder, top, passed)
                if top in self._cut:
                    self.is_whole = False
                    self.overlooked.add(top)
                return


def _key(system: int, kind: int, handle: bytes) -> bytes:
    """Return what tells a folder from all others: volumes may have equal handles."""
    return struct.pack("=Ii", system & 0xFFFFFFFF, kind) + handle  # musl's statvfs has this half


def _is_aside(entry: os.DirEntry[str], passed: Callable[[str], bool]) -> bool:
    return entry.name.startswith((".", "__pycache__")) or passed(entry.path + os.sep)
