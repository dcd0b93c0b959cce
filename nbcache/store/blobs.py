"""The blobs: immutable files under the digest of their bytes.

Keeps three promises: a blob is there whole or not at all; what `read` returns has the digest that
was asked for; content that is there already is not stored twice. Files are moved, not copied, where
the file system allows. docs/format.md has the names.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nbcache.errors import BlobDamagedError, BlobMissingError, StoreError
from nbcache.model.digest import Digest, blob_digest, identity_digest
from nbcache.model.value import Stored
from nbcache.store import tree
from nbcache.store.below import Below
from nbcache.store.blob_files import BlobFiles, set_aside, touch
from nbcache.store.files import (
    full_disk_error,
    is_full,
    new_ulid,
    read_only_error,
    remove,
    sync_file,
    unlock,
    write_whole,
)
from nbcache.store.journal import Durability
from nbcache.store.placing import HOW, How, place_file, place_tree
from nbcache.store.trash import Trash
from nbcache.store.tree import TreeEntry
from nbcache.store.wholeness import CHUNK, LARGE, digests

_NO_FILE = (errno.EISDIR, errno.ELOOP, errno.ENOTDIR)  # something else lies there


@dataclass(frozen=True, slots=True)
class FileBlob:
    """A file that was put: the digest of the blob, the identity of the content, bytes."""

    blob: Digest
    identity: Digest
    size: int
    executable: bool = False


@dataclass(frozen=True, slots=True)
class TreeBlob:
    """A directory that was put: its manifest's digest, its identity, bytes and number of files."""

    blob: Digest
    identity: Digest
    size: int
    files: int


class Blobs:
    """The blobs of one cache folder. Thread-safe; any number of processes may use it at once."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        read_only: str | None = None,
        durability: Durability = "process",
        below: Below | None = None,
    ) -> None:
        self.root = Path(root)
        self._below = below
        self.folder = self.root / "blobs"
        self._files = BlobFiles(self.folder, durability)
        self._temporary = self.root / "tmp"
        self.trash = Trash(self.root)
        self._read_only = read_only
        self._durability = durability
        self.wholeness = self._files.wholeness
        self.behind: Callable[[Digest], bool] | None = None
        """Brings a blob that is not here from a shared cache; False: it cannot be had."""

    # ------------------------------------------------------------------ keeping

    def put_bytes(self, data: bytes | bytearray | memoryview) -> Digest:
        """Keep some bytes; return their blob digest."""
        self._must_write()
        digest = blob_digest(data)
        path = self._files.path(digest)
        identity = identity_digest(data) if len(data) >= LARGE else None
        if (
            self.has(digest, len(data))
            and self.wholeness.is_whole(path, digest, identity)
            and touch(path)
        ):
            self.wholeness.note(path, identity)
            return digest
        new = self._temporary / new_ulid()
        try:
            write_whole(new, data, mode=0o444, sync=self._durability == "fsync")
            self._files.publish(new, digest)
        except OSError as error:
            remove(new)
            raise _cannot_keep(self.root, digest, error) from error
        self.wholeness.note(path, identity)
        return digest

    def put_file(self, path: Path) -> FileBlob:
        """Move a file into the store; `path` is gone afterwards.

        A file that other names link to is copied, since it may be written through them; so is
        what stands behind a symbolic link.

        Raises:
            StoreError: it cannot be read or kept; `path` may be gone.
        """
        self._must_write()
        new = self._temporary / new_ulid()
        try:
            unlock(path.parent)
            if path.is_symlink() and (staged := self.blob_behind(path)) is not None:
                return self._staged_again(path, Path(staged))
            executable = self._take(path, new)
            blob, identity, size = digests(new)
            os.chmod(new, 0o555 if executable else 0o444)
            if self._durability == "fsync":
                sync_file(new)
            self._files.publish(new, blob, size, executable, identity if size >= LARGE else None)
        except OSError as error:
            remove(new)
            if is_full(error):
                raise full_disk_error(self.root, f"the file {path.name}") from error
            raise StoreError(f"cannot keep the file {path}: {error}") from error
        return FileBlob(blob, identity, size, executable)

    def keep_as(self, path: Path, digest: Digest) -> None:
        """Move a file that came from elsewhere into the store, under the digest it must have.

        Raises:
            BlobDamagedError: its bytes have another digest; `path` is left.
        """
        self._must_write()
        found, _, size = digests(path, identity=False)
        if found != digest:
            raise BlobDamagedError(f"what came for the blob {digest} has another digest: {found}")
        try:
            os.chmod(path, 0o444)
            self._files.publish(path, digest, size)
        except OSError as error:
            raise _cannot_keep(self.root, digest, error) from error

    def put_tree(self, directory: Path) -> TreeBlob:
        """Move a directory's files into the store; return the digests of its manifest.

        Links to blobs (staged inputs) count as the files behind them.

        Raises:
            StoreError: a link leads out of the directory, or an entry is no file, directory or
                link. Nothing was moved then.
        """
        self._must_write()
        entries: list[TreeEntry] = []
        size = files = 0
        for entry in tree.scan(directory, self.blob_behind):
            if entry.kind == "file":
                kept = self.put_file(directory / os.fsdecode(entry.path))
                entry = replace(entry, blob=kept.blob, identity=kept.identity, size=kept.size)
                size, files = size + kept.size, files + 1
            entries.append(entry)
        shutil.rmtree(directory, ignore_errors=True)
        return TreeBlob(self.put_bytes(tree.manifest(entries)), tree.identity(entries), size, files)

    def tree_identity(self, path: Path, file_digest: Callable[[Path], Digest]) -> Digest:
        """Return the identity that `put_tree` would give a directory on disk."""
        return tree.tree_identity(path, file_digest, self.blob_behind)

    def set_aside(self, digest: Digest) -> Path | None:
        """Rename a damaged blob, so that nobody uses it and it can be made again."""
        self._must_write()
        return set_aside(self.path(digest))

    # ------------------------------------------------------------------ reading

    def path(self, digest: Digest) -> Path:
        """Return where a blob lies (or would)."""
        return Path(self._found(digest))

    def has(self, digest: Digest, size: int | None = None) -> bool:
        """Say whether a blob is there, and has this many bytes. One stat where it is."""
        path = self._files.path(digest)
        try:
            found = os.stat(path)
        except OSError:
            if not self.trash.rescue(digest[3:], path):
                return self._below is not None and self._below.has(digest[3:], size)
            found = os.stat(path)
        return (size is None or found.st_size == size) and stat.S_ISREG(found.st_mode)

    def read(self, digest: Digest) -> bytes:
        """Return a blob's bytes, verified.

        Raises:
            BlobMissingError, BlobDamagedError.
        """
        try:
            data = self._bytes(digest)
        except FileNotFoundError:
            raise _missing(digest) from None
        except OSError as error:
            if error.errno in _NO_FILE:
                raise BlobDamagedError(f"the blob {digest} is damaged: {error}") from error
            raise StoreError(f"cannot read the blob {digest}: {error}") from error
        if blob_digest(data) != digest:
            raise BlobDamagedError(f"the blob {digest} is damaged: its bytes have another digest")
        return data

    def bytes_of(self, stored: Stored) -> bytes:
        """Return the bytes of what a row names: its own, or those of its blob, as `read` does."""
        if stored.inline is not None:
            return stored.inline
        assert stored.blob is not None
        return self.read(stored.blob)

    def verify(self, digest: Digest) -> bool:
        """Say whether a blob is there and its bytes have its digest. Streams, any size."""
        if not self.has(digest):
            return False
        try:
            return digests(Path(self._files.path(digest)), identity=False)[0] == digest
        except OSError:
            return False

    def open_tree(self, digest: Digest) -> list[TreeEntry]:
        """Return the entries of a tree, sorted by path."""
        return tree.parse_manifest(self.read(digest))

    def has_tree(self, digest: Digest) -> bool:
        """Say whether a tree's manifest and all its files are there, with their sizes."""
        try:
            entries = self.open_tree(digest)
        except (BlobMissingError, BlobDamagedError):
            return False
        return all(each.blob is None or self.has(each.blob, each.size) for each in entries)

    def materialise(
        self,
        digest: Digest,
        kind: str,
        target: Path,
        *,
        how: How | tuple[How, ...] = HOW,
        executable: bool | None = None,
    ) -> How:
        """Place a file or tree at `target` (which must not exist), read-only.

        `how` lists the means to try in order: reflink, symlink, copy. A tree's directories are
        real, its files placed by `how`. Returns the means that worked (of a tree: "copy" if it is
        empty). executable: whether a file is to be; None: as its blob, as is one that need not be
        where it may be a link, since to copy it for that takes time.

        Raises:
            BlobMissingError: a blob is not there; `target` may be there in part.
            BlobDamagedError: so may it be then; the damaged blob is put aside.
        """
        means = (how,) if isinstance(how, str) else how
        if kind == "tree":
            return place_tree(self.open_tree(digest), self.sound, target, means)
        if kind != "file":
            raise StoreError(f"a {kind} cannot be placed as a file")
        if "symlink" in means:
            executable = executable or None
        return place_file(digest, self.sound(digest), target, means, executable)

    def sound(self, digest: str) -> str:
        """Return the path of a blob whose bytes are what they were; it may come from elsewhere.

        One whose state was noted when it was whole is not read.

        Raises:
            BlobDamagedError: they are not; it is put aside.
        """
        path = self._found(digest)
        try:
            if self.wholeness.is_sound(path, digest):
                return path
        except FileNotFoundError:
            return path  # whoever places it says so
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise StoreError(f"cannot read the blob {digest}: {error}") from error
        if self._read_only is None:
            self.set_aside(Digest(digest))
        raise BlobDamagedError(f"the blob {digest} is damaged: its bytes have another digest")

    def check(self, digest: Digest, kind: str) -> None:
        """Raise what `materialise` would of a file or tree that lies somewhere as links."""
        if kind == "tree":
            for each in self.open_tree(digest):
                if each.blob is not None:
                    self.sound(each.blob)
        else:
            self.sound(digest)

    def blob_behind(self, path: Path) -> str | None:
        """Return the blob that a link leads to, None where it leads to something else."""
        real = os.path.realpath(path)
        return real if real.startswith(self._files.prefix) and os.path.isfile(real) else None

    # ------------------------------------------------------------------ inside

    def _bytes(self, digest: str) -> bytes:
        path = self._files.path(digest)
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read()
        except FileNotFoundError:
            if not self._bring_back(digest, path):
                raise
        with open(path, "rb", buffering=0) as file:
            return file.read()

    def _found(self, digest: str) -> str:
        """Return a blob's path, to which it comes back from a clean-up or a shared cache."""
        path = self._files.path(digest)
        if not os.path.exists(path):
            self._bring_back(digest, path)
        return path

    def _bring_back(self, digest: str, path: str) -> bool:
        if self.trash.rescue(digest[3:], path) or self._copied_from_below(digest):
            return True
        return self.behind is not None and self.behind(Digest(digest))

    def _copied_from_below(self, digest: str) -> bool:
        """Copy a blob from the cache that may only be read; False: it is not there, or damaged."""
        if self._below is None or not self._below.has(digest[3:]):
            return False
        new = self._temporary / new_ulid()
        try:
            _copy(self._below.blob(digest[3:]), new)
            self.keep_as(new, Digest(digest))
        except BlobDamagedError:
            self._below.note_damaged(digest[3:])
            return False
        except OSError:  # it is away
            return False
        finally:
            remove(new)
        return True

    def _take(self, path: Path, new: Path) -> bool:
        """Bring a file to `new`; say whether it is executable."""
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode) or found.st_nlink > 1:
            executable = bool(os.stat(path).st_mode & stat.S_IXUSR)
            _copy(path, new)
            os.unlink(path)
            return executable
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path} is no file")
        try:
            os.rename(path, new)
        except OSError as error:
            if error.errno != 18:  # EXDEV: another file system
                raise
            _copy(path, new)
            os.unlink(path)
        return bool(found.st_mode & stat.S_IXUSR)

    def _staged_again(self, link: Path, staged: Path) -> FileBlob:
        """Return what is known of a blob that was staged and is now a result; drop the link."""
        blob, identity, size = digests(staged)
        if blob[3:] != staged.name:
            raise BlobDamagedError(
                f"the blob {staged.name} is damaged: its bytes have another digest"
            )
        touch(str(staged))
        self.wholeness.note(self._files.path(blob), identity if size >= LARGE else None)
        os.unlink(link)
        return FileBlob(blob, identity, size, os.access(staged, os.X_OK))

    def _must_write(self) -> None:
        if self._read_only is not None:
            raise read_only_error(self.root, self._read_only)


def _copy(path: Path, new: Path) -> None:
    with open(path, "rb") as source, open(new, "xb") as out:
        shutil.copyfileobj(source, out, CHUNK)


def _missing(digest: str) -> BlobMissingError:
    return BlobMissingError(f"the blob {digest} is not in the cache (cleaned up or never copied)")


def _cannot_keep(root: Path, what: str, error: OSError) -> StoreError:
    if is_full(error):
        return full_disk_error(root, "a result")
    return StoreError(f"cannot keep the blob {what}: {error.strerror or error}")
