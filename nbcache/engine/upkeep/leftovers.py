"""What killed processes, failed tasks and derived copies leave in a cache: nothing a row needs.

Found by looking, each with its bytes; deleted by `remove_leftovers`. What is younger than a day may
belong to somebody who is at work; when nobody is, ten minutes are enough.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from nbcache.engine.work.workplace import is_left_behind, remove_folder
from nbcache.store.cache import Cache
from nbcache.store.files import is_alive, owner_of
from nbcache.store.fold import RUBBISH_S, made_at, sweep
from nbcache.store.stock import Stock, bytes_below, files_below

DAMAGED = ".damaged-"
SETTLED_S = 600.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that may go: `kind` is work, temporary, copy or damaged; bytes."""

    kind: str
    path: Path
    size: int


def find_leftovers(
    cache: Cache,
    stock: Stock,
    *,
    quiet: bool,
    live: Collection[str] = (),
    gone: Collection[str] = (),
) -> Iterator[Leftover]:
    """Yield what is left over.

    quiet: nobody works on the cache; live: runs that go on; gone: attempts whose work directories
    are not kept either.
    """
    kept = {each.row for each in stock.holdings if each.work is not None} - set(gone)
    for entry in _members(cache.work):
        is_dead = entry.name in gone or is_left_behind(entry.name)
        for_variables = entry.name.startswith("try-")  # `try --into` left it
        if is_dead or (entry.name not in kept and _is_settled(entry, quiet and not for_variables)):
            yield _leftover("work", Path(entry.path))
    for entry in _members(cache.tmp):
        owner = owner_of(entry.name)
        if owner is not None and is_alive(owner):
            continue
        if _is_settled(entry, quiet) and entry.name.removeprefix("run-") not in live:
            yield _leftover("temporary", Path(entry.path))
    contents = {digest.replace(":", "-") for digest in stock.contents}
    for entry in _members(cache.root / "files"):
        if entry.name not in contents and _is_settled(entry, quiet):
            yield _leftover("copy", Path(entry.path))
    for path in files_below(cache.blobs.folder):
        if DAMAGED in path.name:
            yield _leftover("damaged", path)


def remove_leftovers(cache: Cache, found: Collection[Leftover]) -> int:
    """Delete them, and halves of segments that are a day old; return the bytes."""
    freed = 0
    for each in found:
        if each.path.is_dir() and not each.path.is_symlink():
            remove_folder(each.path)
        else:
            with contextlib.suppress(OSError):
                os.unlink(each.path)
        if not os.path.lexists(each.path):
            freed += each.size
    sweep(cache.root)
    return freed


def _leftover(kind: str, path: Path) -> Leftover:
    if path.is_dir() and not path.is_symlink():
        return Leftover(kind, path, bytes_below(path))
    with contextlib.suppress(OSError):
        return Leftover(kind, path, path.lstat().st_size)
    return Leftover(kind, path, 0)


def _members(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _is_settled(entry: os.DirEntry[str], quiet: bool) -> bool:
    try:
        age = time.time() - made_at(entry)
    except OSError:
        return False
    return age > (SETTLED_S if quiet else RUBBISH_S)
