"""Blobs on their way out: put aside by a rename, found again by whoever still wants one.

Renaming a blob to `trash/<batch>/` takes it from nobody: a reader or writer that misses it renames
it back. What stays there is deleted when no row can turn up any more that needs it; until then a
clean-up may be killed anywhere, or be wrong about what is needed, and nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nbcache.store.files import make_folder, new_ulid


@dataclass(frozen=True, slots=True)
class Trashed:
    """A blob in the trash: where it lies, its bytes, since when its batch is left alone."""

    hexadecimal: str
    path: str
    size: int
    since: float  # seconds since 1970, by the file server's clock


class Trash:
    """The trash of one cache folder."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "trash"

    def new_batch(self) -> Path:
        """Return a new folder to rename blobs into, each at most once."""
        batch = self._folder / new_ulid()
        make_folder(batch)
        return batch

    def rescue(self, hexadecimal: str, target: str) -> bool:
        """Bring a blob back to its place; False where it is not in the trash."""
        for batch in self._batches():
            with contextlib.suppress(OSError):
                os.rename(os.path.join(batch, hexadecimal), target)
                return True
        return False

    def entries(self) -> Iterator[Trashed]:
        """Yield what lies in the trash now."""
        for batch in self._batches():
            with contextlib.suppress(OSError):
                since = os.stat(batch).st_mtime
                for entry in list(os.scandir(batch)):
                    with contextlib.suppress(OSError):
                        yield Trashed(entry.name, entry.path, entry.stat().st_size, since)

    def is_due(self) -> bool:
        """Whether a clean-up has left something to be done: its batch stays until then."""
        return bool(self._batches())

    def forget_empty(self) -> None:
        """Delete the folders of batches that have nothing left in them."""
        for batch in self._batches():
            with contextlib.suppress(OSError):
                os.rmdir(batch)

    def _batches(self) -> list[str]:
        try:
            with os.scandir(self._folder) as entries:
                return [entry.path for entry in entries]
        except OSError:
            return []
