"""The files that blobs are: their names, and how a finished file gets one.

A blob is there whole or not at all: what has its name was written elsewhere before, and what was
found damaged gives the name up. Knows nothing of other places that blobs could come from.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from nbcache.errors import StoreError
from nbcache.model.digest import Digest
from nbcache.store.files import make_folder, new_ulid, sync_folder
from nbcache.store.journal import Durability
from nbcache.store.wholeness import Wholeness


class BlobFiles:
    """The blobs in one folder, by name."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self.prefix = os.path.realpath(folder) + os.sep
        self._durability = durability
        self.wholeness = Wholeness()

    def path(self, digest: str) -> str:
        """Return where a blob lies (or would)."""
        hexadecimal = digest[3:]
        if len(digest) != 67 or digest[:3] != "b3:" or not hexadecimal.isalnum():
            raise StoreError(f"{digest!r} is no blob digest")
        return f"{self.prefix}{hexadecimal[:2]}/{hexadecimal}"

    def publish(
        self,
        new: Path,
        digest: Digest,
        size: int | None = None,
        executable: bool = False,
        identity: Digest | None = None,
    ) -> None:
        """Give a finished file its name; a damaged one of that name is replaced.

        identity: of a large one, which is noted.
        """
        if not self._is_there_already(new, digest, size, executable, identity):
            os.utime(new)  # a moved file has kept its own time
            self._rename(new, digest)
        self.wholeness.note(self.path(digest), identity)

    def _is_there_already(
        self, new: Path, digest: Digest, size: int | None, executable: bool, identity: Digest | None
    ) -> bool:
        """Whether a whole blob of that name is there and stays; then the new file is gone."""
        target = self.path(digest)
        try:
            there = os.stat(target)
        except OSError:
            return False
        if not stat.S_ISREG(there.st_mode) or there.st_size != size:  # nor a pipe, which waits
            return False
        if not self.wholeness.is_whole(target, digest, identity):
            return False
        if executable and not there.st_mode & stat.S_IXUSR:
            try:
                os.chmod(target, 0o555)
            except OSError:  # another user's: the new file has the bit
                return False
        if not touch(target):
            return False
        os.unlink(new)
        return True

    def _rename(self, new: Path, digest: Digest) -> None:
        target = self.path(digest)
        try:
            os.replace(new, target)
        except FileNotFoundError:
            with suppress(FileExistsError):
                make_folder(os.path.dirname(target))
            os.replace(new, target)
        except IsADirectoryError:
            set_aside(Path(target))
            os.replace(new, target)
        if self._durability == "fsync":
            sync_folder(Path(target).parent)


def set_aside(path: Path) -> Path | None:
    """Take a damaged file's name, so that nobody uses it; None where it is gone."""
    aside = path.with_name(f"{path.name}.damaged-{new_ulid()}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return None
    return aside


def touch(path: str) -> bool:
    """Say to a clean-up that a blob is wanted again; False where it is gone or another user's."""
    try:
        os.utime(path)
    except OSError:
        return False
    return True
