"""The file-state table: digests of files outside the cache, remembered by what stat says of them.

Decides when a digest computed earlier may stand for a file without reading it: when path, size,
mtime, inode and ctime are all the same, and the file was old enough when it was hashed that a later
write would have changed its ctime (git's "racily clean" entries are the idea). docs/format.md has
the bytes. Readers take no lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import stat as statmodes
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from xxhash import xxh3_64_hexdigest, xxh3_128

from nbcache.errors import InputChangedError
from nbcache.model.digest import Digest, identity_digest
from nbcache.store.files import close_in_children, lock_left, new_ulid, open_up, write_all
from nbcache.store.tree import ContentOf, escape, no_content, tree_identity
from nbcache.store.trust_file import is_trusted

Mode = Literal["deep", "standard", "lenient"]
StatKey = tuple[int, int, int, int]  # size, mtime_ns, inode, ctime_ns

_BUFFER = 1 << 20  # fits the processor's cache, and keeps system calls few
_SMALL_BUFFER = 1 << 16
_RESOLUTION_NS = 20_000_000  # twice the longest tick of a Linux kernel's clock
_COARSE_NS = 2_000_000_000  # where times are whole seconds (some network and old file systems)
_BIG = 32 << 20  # before reading so much, look whether another process has done it
_MERGE_FILES = 16


class TooLong(Exception):
    """The time given for an answer is over."""


def stat_key(path: str | os.PathLike[str]) -> StatKey:
    """Return (size, mtime_ns, inode, ctime_ns) of the file behind a path."""
    return _key(os.stat(path))


def _key(found: os.stat_result) -> StatKey:
    return (found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns)


def digest_of(path: str | os.PathLike[str]) -> Digest:
    """Return the digest of a file's content as it is now."""
    return hash_file(os.fspath(path), stat_key(path))


def hash_file(path: str, expected: StatKey, until: float = math.inf) -> Digest:
    """Return the identity digest of a file's bytes.

    Raises:
        InputChangedError: it is not as `expected`, before or after reading.
        TooLong: it is not read when the monotonic clock says `until`.
    """
    size = min(_BUFFER, max(_SMALL_BUFFER, expected[0] + 1))  # making one takes time, too
    state, buffer = xxh3_128(), bytearray(size)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        before = _key(os.fstat(file.fileno()))
        while count := file.readinto(buffer):
            state.update(view[:count])
            if time.monotonic() > until:
                raise TooLong
        after = _key(os.fstat(file.fileno()))
    if not (expected == before == after == _key(os.stat(path))):
        raise InputChangedError(
            f"the file {path} changed while it was read.\n  Run again when it is complete."
        )
    return Digest("xxh3:" + state.hexdigest())


class RemoteNote(NamedTuple):
    """What a remote file holds while its server gives it a tag; its name tells nothing secret.

    signer: whose word it is; empty: the user's own, who has read it.
    """

    name: str
    tag: str
    size: int | None
    digest: Digest
    blob: Digest
    signer: str = ""


class FileTable:
    """Content digests of files and directories. Thread-safe; shared with other processes."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        folder: str = "filestate",
        read_only: str | None = None,
        content_of: ContentOf = no_content,
    ) -> None:
        """`content_of` tells which links in a directory stand for a file of the cache."""
        self.folder = Path(root) / folder
        self._read_only, self._content_of = read_only, content_of
        self._known: dict[bytes, bytes] = {}  # escaped path -> "CHECK DIGEST SIZE ..." before it
        self._read: dict[str, int] = {}  # file of the table -> bytes read
        self._looked_at = float("-inf")
        self._descriptor: int | None = None
        self._own = ""
        self._lock = threading.Lock()
        self._here = threading.local()
        close_in_children(self)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Have this thread raise TooLong where it takes longer than this to read files."""
        self._here.until = time.monotonic() + seconds
        try:
            yield
        finally:
            self._here.until = math.inf

    @property
    def is_in_haste(self) -> bool:
        """Whether this thread is within such a time."""
        return self._until < math.inf

    @property
    def _until(self) -> float:
        return getattr(self._here, "until", math.inf)

    def digest(self, path: str | os.PathLike[str], *, mode: Mode = "deep") -> Digest:
        """Return the identity digest of a file or directory.

        deep: of the content. standard: of (path, size, mtime). lenient: of (path, size).

        Raises:
            InputChangedError: the file changed while it was read.
            OSError: it cannot be read.
        """
        return self.digests([path], mode=mode)[0]

    def digests(
        self, paths: Iterable[str | os.PathLike[str]], *, mode: Mode = "deep"
    ) -> list[Digest]:
        """Return the digests of many files and directories, in their order."""
        lines: list[bytes] = []
        try:  # threads may hash at once; the lock is for the table only
            return [self._digest(os.path.abspath(path), mode, lines) for path in paths]
        finally:
            if lines:
                with self._lock:
                    self._append(lines)

    def noted(self, path: str) -> Digest | None:
        """Return the digest that `note` was told for a file, while the file is as it was then."""
        self._look()
        return self._lookup(escape(os.fsencode(path)), _key(os.stat(path)))

    def note(self, path: str, digest: Digest) -> None:
        """Remember the digest of a file that the caller itself has just written."""
        name = escape(os.fsencode(path))
        line = _line(digest, _key(os.stat(path)), name)
        self._known[name] = line
        with self._lock:
            self._append([line])

    def remote(self, name: str, tag: str, size: int | None) -> RemoteNote | None:
        """Return what was noted of a remote file for this tag and size (None and 0 are one in the
        table), by this user or by somebody whom he still trusts."""
        self._look()
        note = _remote_note(self._known.get(_word(name), b""))
        if note is None or (note.size or 0, note.tag) != (size or 0, tag):
            return None
        return note._replace(size=size) if not note.signer or is_trusted(note.signer) else None

    def note_remote(self, note: RemoteNote) -> None:
        """Remember the content of a remote file while its server gives it this tag."""
        words = [note.digest, str(note.size or 0), note.tag, note.blob, note.signer, note.name]
        key = _word(note.name)
        line = _checked(b" ".join(filter(None, map(_word, words))))
        self._known[key] = line
        with self._lock:
            self._append([line])

    def close(self) -> None:
        """Let go of this process's file."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def close_in_child(self) -> None:
        """Leave the parent's file alone in a forked child."""
        self._lock = threading.Lock()
        self.close()

    def _digest(self, path: str, mode: Mode, lines: list[bytes]) -> Digest:
        found = os.stat(path)
        if statmodes.S_ISDIR(found.st_mode):
            return tree_identity(
                Path(path),
                lambda each: self._digest(os.path.abspath(each), mode, lines),
                self._content_of,
            )
        if not statmodes.S_ISREG(found.st_mode):  # reading a pipe or device may never end
            raise OSError(errno.EINVAL, "neither a file nor a folder", path)
        if mode == "deep":
            return self._content(path, _key(found), lines)
        parts = [b"nbcache-file", mode.encode(), os.fsencode(path), b"%d" % found.st_size]
        if mode == "standard":
            parts.append(b"%d" % found.st_mtime_ns)
        return identity_digest(b"\0".join(parts))

    def _content(self, path: str, key: StatKey, lines: list[bytes]) -> Digest:
        name = escape(os.fsencode(path))
        if not self._read:
            self._look()  # the first time
        known = self._lookup(name, key)
        if known is None and key[0] >= _BIG:
            self._look()
            known = self._lookup(name, key)
        if known is not None:
            return known
        began = time.time_ns()
        digest = hash_file(path, key, self._until)
        if is_settled(key, began):
            line = _line(digest, key, name)
            self._known[name] = line
            lines.append(line)
        return digest

    def _lookup(self, name: bytes, key: StatKey) -> Digest | None:
        words = _sound_words(self._known.get(name, b""))
        if len(words) != 6 or words[1:5] != [b"%d" % each for each in key]:
            return None
        return Digest(words[0].decode())

    def _look(self) -> None:
        """Read what this and other processes wrote since the last look."""
        with self._lock:
            if time.monotonic() - self._looked_at < 0.2:
                return
            try:
                names = sorted(os.listdir(self.folder))
                if len(names) > _MERGE_FILES and self._read_only is None:
                    self._merge(names)
                    names = sorted(os.listdir(self.folder))
            except FileNotFoundError:
                names = []
            for name in names:
                if name != self._own:
                    self._read_table(name)
            self._looked_at = time.monotonic()
            self._read.setdefault("", 0)

    def _read_table(self, name: str) -> None:
        start = self._read.get(name, 0)
        try:
            if os.stat(self.folder / name).st_size == start:
                return
            with open(self.folder / name, "rb", buffering=0) as file:
                file.seek(start)
                data = file.read()
        except OSError:
            return  # merged away in the meantime: the merged file is read at the next look
        whole = data.rfind(b"\n") + 1
        self._read[name] = start + whole
        for line in data[:whole].splitlines():
            self._known[line[line.rfind(b" ") + 1 :]] = line

    def _append(self, lines: Sequence[bytes]) -> None:
        """Keep new digests; failing to costs only time later."""
        if self._read_only is not None:
            return
        try:
            if self._descriptor is None:
                self._descriptor, self._own = _open_table(self.folder)
            write_all(self._descriptor, b"".join(line + b"\n" for line in lines))
        except OSError:
            return

    def _merge(self, names: Sequence[str]) -> None:
        """Merge the files that no process writes any more into one."""
        held: list[tuple[str, int]] = []
        lines: dict[bytes, bytes] = {}
        try:
            for name in names:
                descriptor = lock_left(self.folder / name)
                if descriptor is not None:
                    held.append((name, descriptor))
                    for line in (self.folder / name).read_bytes().splitlines():
                        lines[line[line.rfind(b" ") + 1 :]] = line
            if len(held) > 1:
                new = self.folder.parent / "tmp" / new_ulid()
                new.write_bytes(
                    b"".join(b"%b\n" % each for each in lines.values() if _sound_words(each))
                )
                os.replace(new, self.folder / new_ulid())
                for name, _ in held:
                    os.unlink(self.folder / name)
        except OSError:
            pass  # another process merges, or the disk is full: the files stay as they are
        finally:
            for _, descriptor in held:
                os.close(descriptor)


def _line(digest: Digest, key: StatKey, name: bytes) -> bytes:
    numbers = b" ".join(b"%d" % each for each in key)
    return _checked(b"%s %s %s" % (digest.encode(), numbers, name))


def _checked(line: bytes) -> bytes:
    return xxh3_64_hexdigest(line).encode() + b" " + line


def _sound_words(line: bytes) -> list[bytes]:
    """Return the words behind a line's check sum; none where it does not hold."""
    check, _, rest = line.partition(b" ")
    return rest.split(b" ") if check == xxh3_64_hexdigest(rest).encode() else []


def _word(text: str) -> bytes:
    return escape(text.encode("utf-8", "surrogateescape"))


def _remote_note(line: bytes) -> RemoteNote | None:
    """Return what a line of a remote file says; None: it is none, or damaged."""
    words = [
        unquote_to_bytes(word).decode("utf-8", "surrogateescape") for word in _sound_words(line)
    ]
    if len(words) not in (5, 6):
        return None
    digest, size, tag, blob, *signer, name = words
    return RemoteNote(name, tag, int(size) or None, Digest(digest), Digest(blob), "".join(signer))


def is_settled(key: StatKey, now: int) -> bool:
    """Say whether any later change would give the file or folder another ctime."""
    mtime, ctime = key[1], key[3]
    is_coarse = mtime % 1_000_000_000 == 0 and ctime % 1_000_000_000 == 0
    return ctime + (_COARSE_NS if is_coarse else _RESOLUTION_NS) < now


def _open_table(folder: Path) -> tuple[int, str]:
    while True:
        name = new_ulid()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(folder / name, flags, 0o644)
        open_up(descriptor, folder / name, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(folder / name).st_ino == os.fstat(descriptor).st_ino:
                return descriptor, name
        except (BlockingIOError, FileNotFoundError):
            pass  # a merging process took it first
        os.close(descriptor)
