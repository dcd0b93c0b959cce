"""What one user trusts, outside of any notebook and cache: own caches and other people's keys.

A cache in this file is the user's own; every other is foreign. The folder is the platform's place
for settings, or NBCACHE_CONFIG_DIR. A file that others may write to does not count, nor does one
that cannot be read: then nothing is trusted. Changes are made under a lock, whole or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from nbcache.errors import StoreError
from nbcache.store.files import new_ulid, remove, sync_folder, write_whole

_NAME = "trust.json"
_FORMAT = 1
_MOST_GONE = 500
"""Caches that are noted though nothing lies at their place any more: a disk may come back."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key that the user decided about; `at` in microseconds."""

    key: str
    name: str
    at: int
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an own cache was made or taken over: its path, and the inode of its nbcache.json."""

    path: str
    inode: int


@dataclass(frozen=True, slots=True)
class Trust:
    """The file as it was read."""

    caches: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)  # by cache id
    keys: Mapping[str, TrustedKey] = field(default_factory=dict)

    def owns(self, cache: str, path: str, inode: int) -> bool:
        """Whether a cache is the user's own: known by its id, and found where it was or moved.

        The id alone would not do: it stands in every copy, also in one that somebody changed and
        sent back.
        """
        return any(each.path == path or each.inode == inode for each in self.caches.get(cache, ()))


def config_folder() -> Path:
    """Return where this user's settings lie (it may not exist)."""
    get = os.environ.get
    return _config_folder(get("NBCACHE_CONFIG_DIR"), get("XDG_CONFIG_HOME"), get("HOME"))


@lru_cache
def _config_folder(chosen: str | None, root: str | None, _home: str | None) -> Path:
    """The same, by the variables that it depends on: it is asked for with each row."""
    # A relative path counts from home: in a notebook's folder lies what its author has put there.
    home = os.path.expanduser("~")
    if chosen:
        return Path(os.path.abspath(os.path.join(home, os.path.expanduser(chosen))))
    if sys.platform == "darwin":
        return Path(home, "Library/Application Support/nbcache")
    return Path(home, root or ".config", "nbcache")


def is_private(path: Path) -> bool:
    """Whether a file is this user's and nobody else may write to it."""
    found = os.stat(path)
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


_read: dict[Path, tuple[tuple[int, ...], Trust]] = {}  # by folder, with the state when it was read


def read_trust() -> Trust:
    """Return what the user trusts now; nothing, where the file is missing, odd or not private."""
    folder = config_folder()
    try:
        found = os.stat(os.path.join(folder, _NAME))
        state = (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode, found.st_uid)
        known = _read.get(folder)
        if known is None or known[0] != state:
            path = folder / _NAME
            read = _parse(path.read_bytes()) if is_private(path) else Trust()
            known = _read[folder] = state, read
        return known[1]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Trust()


def is_trusted(key: str) -> bool:
    """Whether the user trusts what a key signs, now."""
    known = read_trust().keys.get(key)
    return known is not None and not known.revoked


def _parse(data: bytes) -> Trust:
    held = json.loads(data)
    return Trust(
        {
            cache: tuple(Place(str(each["path"]), int(each["inode"])) for each in places)
            for cache, places in held.get("caches", {}).items()
        },
        {
            key: TrustedKey(key, str(each["name"]), int(each["at"]), bool(each.get("revoked")))
            for key, each in held.get("keys", {}).items()
        },
    )


def own_cache(cache: str, place: Place) -> None:
    """Note that a cache is the user's own.

    Raises:
        StoreError: the file cannot be written.
    """
    with _changing() as held:
        places = held.setdefault("caches", {}).setdefault(cache, [])
        new = {"path": place.path, "inode": place.inode}
        if new not in places:
            places.append(new)
            _forget_oldest(held["caches"])


def _forget_oldest(caches: dict[str, list[dict[str, Any]]]) -> None:
    """Let go of the caches that have been gone longest, where there are very many of them."""
    if len(caches) > 2 * _MOST_GONE:
        gone = [
            cache
            for cache, places in caches.items()  # in the order in which they were noted
            if not any(os.path.lexists(each["path"]) for each in places)
        ]
        for cache in gone[:-_MOST_GONE]:
            del caches[cache]


def trust_key(key: str, name: str, *, revoked: bool = False) -> TrustedKey:
    """Note a key as trusted, or as revoked.

    Raises:
        StoreError: the file cannot be written.
    """
    made = TrustedKey(key, name, time.time_ns() // 1000, revoked)
    with _changing() as held:
        entry = {"name": made.name, "at": made.at, **({"revoked": True} if revoked else {})}
        held.setdefault("keys", {})[key] = entry
    return made


@contextlib.contextmanager
def _changing() -> Iterator[dict[str, Any]]:
    """Give the file's content to be changed, and put it in the file's place afterwards."""
    folder = private_folder()
    path = folder / _NAME
    try:
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held = _held(path)
            before = json.dumps(held)
            yield held
            if json.dumps(held) != before:
                replace_whole(path, json.dumps(held, indent=1).encode() + b"\n")
        finally:
            os.close(lock)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _held(path: Path) -> dict[str, Any]:
    try:
        if not is_private(path):
            raise StoreError(
                f"{path} is another user's, or others may write to it, so it does not count.\n"
                f"  Look at what it says; then: chmod 600 {path}"
            )
        held = json.loads(path.read_bytes())
        if isinstance(held, dict) and held.get("format") == _FORMAT:
            return held
    except FileNotFoundError:
        return {"format": _FORMAT}
    except ValueError:
        pass
    raise StoreError(f"{path} is damaged or of a newer version.\n  Move it away, and trust anew.")


def private_folder() -> Path:
    """Return the folder for settings, made where it is missing.

    Raises:
        StoreError: it cannot be made.
    """
    folder = config_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"cannot make {folder}, where it is noted which caches are yours: "
            f"{error.strerror or error}.\n  Name another folder: NBCACHE_CONFIG_DIR=FOLDER"
        ) from error
    return folder


def replace_whole(path: Path, data: bytes) -> None:
    """Put a private file (0600) in the place of one that may be there."""
    new = path.with_name(f".{path.name}.{new_ulid()}")
    try:
        write_whole(new, data, mode=0o600, sync=True)
        os.replace(new, path)
        sync_folder(path.parent)
    finally:
        remove(new)
