"""One cache folder: its log, blobs, file states and claims, opened together.

Cheap to open: reads one small file and imports nothing heavy. Decides whether the folder is a cache
that this version may read and write; never creates one over a folder that holds something else.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcache.errors import CacheFormatError, StoreError, command
from nbcache.store.activity import Activity
from nbcache.store.below import Below, below_of, place_below, private_place
from nbcache.store.blobs import Blobs
from nbcache.store.claims import Claims
from nbcache.store.files import make_folder, new_ulid, remove, write_whole
from nbcache.store.filestate import FileTable
from nbcache.store.header import FORMAT, encode_header, new_header
from nbcache.store.journal import Durability
from nbcache.store.log import Log
from nbcache.store.signing import Signer, Vouching
from nbcache.store.trust_file import Place, own_cache, read_trust

if TYPE_CHECKING:
    from nbcache.store.remote.shared import Shared

_NAME = "nbcache.json"
DENIED = "no permission to write"  # to the folder itself
_FOLDERS = ("log", "journal", "blobs", "claims", "filestate", "published", "work", "tmp", "index")


class Cache:
    """A cache in a local folder. Use `Cache.open`."""

    def __init__(
        self, root: Path, header: dict[str, Any], read_only: str | None, durability: Durability
    ) -> None:
        self.root = root
        self._inode = os.stat(root).st_ino
        self.id: str = header["id"]
        self.format: int = header["format"]
        self.read_only = read_only  # why nothing may be written; None: it may
        self.below = below_of(root)  # the one that may only be read, whose private one this is
        self.work = root / "work"
        self.tmp = root / "tmp"
        self.blobs = Blobs(root, read_only=read_only, durability=durability, below=self.below)
        self.is_own = _is_own(root, self.id) if self.below is None else _owns(self.below)
        self.unnoted = _unnoted.get(self.id)  # why no later process knows that it is one's own
        self.sign = Signer(makes_key=not self.is_own).sign
        self.log = Log(
            root,
            read_only=read_only,
            durability=durability,
            vouching=Vouching(own=self.is_own),
            sign=self.sign,
        )
        self.files = FileTable(root, read_only=read_only, content_of=self.blobs.blob_behind)
        self.blobs.wholeness.states = self.files
        self.published = FileTable(root, folder="published", read_only=read_only)
        self.claims = Claims(root, read_only=read_only)
        self.activity = Activity(root, read_only=read_only)
        self.shared: Shared | None = None  # the cache of a team behind this one

    @property
    def writable(self) -> bool:
        """Whether anything may be written."""
        return self.read_only is None

    @property
    def is_trusted_to_share(self) -> bool:
        """Whether this user has said where what is made is sent; in a foreign cache others have."""
        return self.is_own or self.below is not None

    def is_there(self) -> bool:
        """Whether the folder that was opened still lies at its place."""
        try:
            return os.stat(self.root / _NAME) is not None and (
                os.stat(self.root).st_ino == self._inode
            )
        except OSError:
            return False

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str],
        *,
        create: bool = True,
        durability: Durability = "process",
    ) -> Cache:
        """Open the cache in a folder, and make it first where there is none.

        For a folder that this user may not write to it is his private one before that, which is
        made only with `create`; without it, and of a newer format, the folder opens read-only. So
        does one that has a folder in it that he may not write to: that is for him to mend.

        Raises:
            CacheFormatError: the folder holds something else, or nothing and `create` is False.
            StoreError: the folder cannot be made or read.
        """
        folder = Path(os.path.abspath(root))
        try:
            header = _read_header(folder)
            if header is None:
                _check_empty(folder, create)
                header = _create(folder)
            read_only = _prepare(folder, header)
            private = _private(folder, header, create) if read_only == DENIED else None
            if private is not None:
                return cls.open(private, create=False, durability=durability)
            return cls(folder, header, read_only, durability)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(
                f"cannot open the cache {folder}: {reason}.\n"
                f"  Use another place: `{command('use FOLDER')}`."
            ) from error

    def share(self, shared: Shared | None) -> None:
        """Put a shared cache behind this one (None: no more)."""
        if self.shared is not None:
            self.shared.close()
        self.shared = shared
        self.blobs.behind = None if shared is None else shared.fetching.bring_for_reader

    def close(self) -> None:
        """Let go of the journal, the file table, all claims and the shared cache."""
        self.share(None)
        self.log.close()
        self.files.close()
        self.published.close()
        self.claims.close()

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Cache({str(self.root)!r})"


def _read_header(folder: Path) -> dict[str, Any] | None:
    """Return what nbcache.json says; None where there is no such file."""
    try:
        data = (folder / _NAME).read_bytes()
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise CacheFormatError(f"{folder} is a file, and a cache is a folder") from None
    try:
        header = json.loads(data)
        if not isinstance(header["format"], int) or not isinstance(header["id"], str):
            raise ValueError("format or id")
    except (ValueError, KeyError, TypeError) as error:
        raise CacheFormatError(
            f"{folder / _NAME} is damaged ({error}).\n  Restore it from a copy, or use another "
            f"folder: `{command('use FOLDER')}`."
        ) from error
    known: dict[str, Any] = header
    return known


def _check_empty(folder: Path, create: bool) -> None:
    """Refuse a folder that holds something else."""
    if not create:
        raise CacheFormatError(f"there is no nbcache cache in {folder}")
    try:
        others = [
            name
            for name in os.listdir(folder)
            if not name.startswith(f".{_NAME}.") and not _is_left(folder / name)
        ]
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise CacheFormatError(f"{folder} is a file, and a cache is a folder") from None
    if others and not (folder / _NAME).exists():  # another process may just be making it
        raise CacheFormatError(
            f"{folder} holds other things (such as {sorted(others)[0]!r}) and no nbcache cache.\n"
            f"  Name a new or empty folder: `{command('use FOLDER')}`."
        )


def _is_left(path: Path) -> bool:
    """Whether this is what may remain of a cache that was deleted while somebody used it."""
    try:
        return path.name in _FOLDERS and not os.listdir(path)
    except OSError:
        return False


def _create(folder: Path) -> dict[str, Any]:
    """Write nbcache.json unless another process is quicker; return what it says."""
    header = new_header()
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".{_NAME}.{new_ulid()}"
    write_whole(new, encode_header(header), sync=True)
    _own(folder, str(header["id"]), os.stat(new).st_ino)  # first: nobody must find it foreign
    try:
        os.link(new, folder / _NAME)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not (folder / _NAME).exists():
            os.rename(new, folder / _NAME)
    finally:
        remove(new)
    found = _read_header(folder)
    assert found is not None
    return found


_made: set[tuple[str, str]] = set()  # (id, folder) of what this process made, wherever settings lie
_unnoted: dict[str, str] = {}  # id -> why it could not be noted there


def _own(folder: Path, cache: str, inode: int) -> None:
    """Note that a cache is this user's own; where that cannot be written, for this process."""
    _made.add((cache, os.path.realpath(folder)))
    try:
        own_cache(cache, Place(os.path.realpath(folder), inode))
    except StoreError as error:
        _unnoted[cache] = str(error).partition("\n")[0].rstrip(".")


def _is_own(folder: Path, cache: str) -> bool:
    """Whether this user made the cache, or took it over. Any other is foreign."""
    path = os.path.realpath(folder)
    if (cache, path) in _made:
        return True
    return read_trust().owns(cache, path, os.stat(folder / _NAME).st_ino)


def take_over(folder: Path) -> str:
    """Note a cache that somebody else made, or that was moved, as one's own; return its id.

    All that is in it may then run code as this user.

    Raises:
        CacheFormatError: there is no cache in the folder. StoreError: it cannot be noted.
    """
    header = _read_header(folder)
    if header is None:
        raise CacheFormatError(f"there is no nbcache cache in {folder}")
    inode = os.stat(folder / _NAME).st_ino
    own_cache(header["id"], Place(os.path.realpath(folder), inode))
    return str(header["id"])


def _prepare(folder: Path, header: dict[str, Any]) -> str | None:
    """Make the folders that are missing; return why nothing may be written, or None."""
    if header["format"] > FORMAT:
        return f"its format {header['format']} is newer than this nbcache, which knows {FORMAT}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return DENIED
    for name in _FOLDERS:
        path = folder / name
        try:
            make_folder(path)
        except FileExistsError:
            if not path.is_dir():
                return f"{name} in it is no folder: delete it"
            if not os.access(path, os.W_OK | os.X_OK):
                return f"{DENIED} to {name}/"
    return None


def _private(folder: Path, header: dict[str, Any], create: bool) -> Path | None:
    """Return the private cache before one that may only be read, made with `create`; None: there is
    none, or none can be made."""
    place = private_place(header["id"])
    try:
        if _read_header(place) is None:
            if not create:
                return None
            place.mkdir(parents=True, mode=0o700, exist_ok=True)
            _create(place)
        below = below_of(place)
        if below is None or below.folder != folder:
            _prepare(place, header)
            place_below(place, folder)
    except (OSError, StoreError):  # a home that may only be read, too
        return None
    return place


def _owns(below: Below) -> bool:
    """Whether the cache below is this user's own, so that what is in it counts as his word."""
    try:
        header = _read_header(below.folder)
        return header is not None and _is_own(below.folder, str(header["id"]))
    except (OSError, StoreError):  # it is away
        return False
