"""A cache that may only be read, below a private one that takes what is made.

The private one lies among this user's own state, under the id of the other. The log of that stands
in it as links, so whoever reads it reads both; blobs are copied when somebody needs them, and
compared with their digests. Nothing is ever written below. docs/format.md has `below.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Collection
from pathlib import Path

from nbcache.errors import StoreError
from nbcache.model.digest import Digest
from nbcache.store.claims import Claims
from nbcache.store.files import make_folder, new_ulid, remove, write_whole
from nbcache.store.listing import Listing

_NAME = "below.json"


class Below:
    """The cache in `folder`, below the private one in `root`. Thread-safe."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self._root = folder, root
        self._listings = {name: Listing(folder / name) for name in ("journal", "log")}
        self.segments: frozenset[str] = frozenset()  # names of files in its log
        self._claims = Claims(folder, read_only="it lies below")

    def link(self) -> None:
        """Have its log as it is now stand in the private one. Two stats where nothing changed.

        Journals are listed first: rows move from them to segments.
        """
        for name, listing in self._listings.items():
            with contextlib.suppress(StoreError, OSError):  # it is away: what is linked stands
                names = listing.names(always=False)
                if names is not None:
                    self._link(name, names)

    def _link(self, name: str, names: Collection[str]) -> None:
        there, here = self.folder / name, self._root / name
        held = {each.name: os.readlink(each.path) for each in os.scandir(here) if each.is_symlink()}
        wanted = {each: str(there / each) for each in names if not each.startswith(".")}
        for each, target in wanted.items() - held.items():
            if each in held:  # it was mounted elsewhere
                remove(here / each)
            with contextlib.suppress(FileExistsError):
                os.symlink(target, here / each)
        for each in held.keys() - wanted.keys():
            remove(here / each)
        if name == "log":
            self.segments = frozenset(wanted)

    def blob(self, hexadecimal: str) -> Path:
        """Return where a blob would lie there."""
        return self.folder / "blobs" / hexadecimal[:2] / hexadecimal

    def has(self, hexadecimal: str, size: int | None = None) -> bool:
        """Say whether a blob is there, has this many bytes, and was not found damaged."""
        try:
            found = os.stat(self.blob(hexadecimal))
        except OSError:
            return False
        is_file = stat.S_ISREG(found.st_mode) and (size is None or found.st_size == size)
        return is_file and not self._mark(hexadecimal).exists()

    def is_claimed(self, hash: Digest) -> bool:
        """Whether anybody on this machine holds a claim there now; False where it is away."""
        try:
            return self._claims.is_claimed(hash)
        except OSError:
            return False

    def note_damaged(self, hexadecimal: str) -> None:
        """Note for all processes that a blob there holds other bytes than its name says."""
        mark = self._mark(hexadecimal)
        with contextlib.suppress(FileExistsError):
            make_folder(mark.parent)
        mark.touch()

    def _mark(self, hexadecimal: str) -> Path:
        return self._root / "blobs" / hexadecimal[:2] / f"{hexadecimal}.damaged-below"


def below_of(root: Path) -> Below | None:
    """Return the cache below the one in a folder; None: it stands alone."""
    try:
        return Below(Path(json.loads((root / _NAME).read_bytes())["folder"]), root)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{root / _NAME} cannot be read: {error}.\n  Delete it, and name the cache that may "
            "only be read again."
        ) from error


def place_below(root: Path, folder: Path) -> None:
    """Note that the cache in `root` is the private one before that in `folder`."""
    new = root / "tmp" / new_ulid()
    write_whole(new, json.dumps({"folder": str(folder)}).encode() + b"\n", sync=True)
    os.replace(new, root / _NAME)


def private_place(cache: str) -> Path:
    """Return where this user's private cache before the one of this id lies, or would."""
    if sys.platform == "darwin":
        state = Path(os.path.expanduser("~/Library/Application Support"))
    else:
        state = Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"))
    return state / "nbcache" / cache
