"""Repair what `verify` found, as far as nothing has to be guessed.

Nothing is thrown away: damaged files are put aside under another name, and results whose bytes are
gone get a tombstone, so that they are made again when they are needed. Of rows and keys that say
different things neither is believed: a result that is made again is better than a wrong one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from nbcache.model.digest import Digest
from nbcache.model.ids import ulid_ms
from nbcache.model.row import Record
from nbcache.store import fold
from nbcache.store.cache import Cache
from nbcache.store.columns import table_of
from nbcache.store.files import new_ulid, read_only_error
from nbcache.store.segment import (
    KEYS,
    ROWS,
    in_order,
    is_damage,
    keys_table,
    metadata_for,
    read_records,
    segment_name,
)
from nbcache.store.segment_pair import agreeing, read_keys
from nbcache.store.soundness import is_whole
from nbcache.store.verify import Problem, Report

_DAMAGED = ".damaged-"


def open_repaired(root: Path) -> tuple[Cache, list[str]]:
    """Open a cache whose log may not be readable, and make it so; say what was done.

    Raises:
        StoreError: the cache is read-only.
    """
    with Cache.open(root, create=False) as cache:
        if cache.read_only is not None:
            raise read_only_error(cache.root, cache.read_only)
        done = []
        for path in sorted((cache.root / "log").glob("*" + KEYS)):
            name = segment_name(path.name)
            if name is not None and not _is_readable(cache.root, name):
                done.append(f"segment {name}: {_repair_segment(cache.root, name)}")
    return Cache.open(root), done


def repair(cache: Cache, report: Report) -> Iterator[str]:
    """Repair the problems of a report; yield what was done."""
    for problem in report.problems:
        done = _repair(cache, problem)
        if done:
            yield f"{problem.kind} {problem.place}: {done}"


def _repair(cache: Cache, problem: Problem) -> str:
    path = cache.root / problem.place
    if problem.fault == "segment":
        return _repair_segment(cache.root, problem.place)
    if problem.fault == "index":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(cache.root / "index" / f"{problem.place}.idx")
        return "its index is made again"
    if problem.fault == "mode":
        os.chmod(path, 0o555 if os.access(path, os.X_OK) else 0o444)
        return "is read-only again"
    if problem.fault == "folder":
        right = cache.blobs.folder / path.name[:2] / path.name
        right.parent.mkdir(exist_ok=True)
        os.replace(path, right)
        return "moved to its place"
    if problem.fault == "digest":
        aside = cache.blobs.set_aside(Digest(f"b3:{path.name}"))
        return "put aside" if aside is not None else ""
    if problem.fault == "gone":
        cache.log.evict(row=problem.place, reason="its blob was gone or damaged (verify --repair)")
        return "its result is made again when it is needed"
    if problem.fault == "lost":
        cache.log.evict(row=problem.place, reason="what it took was lost (verify --repair)")
        return "what it took is lost, and is said to be"
    return ""


def has_put_aside(root: Path) -> bool:
    """Say whether a segment lies aside, which may name blobs that no other row names."""
    return any((root / "log").glob(f"*{_DAMAGED}*"))


def _is_readable(root: Path, name: str) -> bool:
    try:
        fold.rebuilt_index(root, name)
        return all(map(is_whole, read_records(root / "log" / (name + ROWS))))
    except Exception as error:
        if not is_damage(error):
            raise
        return False


def _repair_segment(root: Path, name: str) -> str:
    """Make the keys again from the rows, as far as they do not say another thing; put aside what
    is damaged. What is put aside last, so whoever is killed before can do it again."""
    keys, rows = root / "log" / (name + KEYS), root / "log" / (name + ROWS)
    mark = f"{_DAMAGED}{new_ulid()}"
    records = _records(rows)
    believed = [each for each in records if is_whole(each)]
    try:
        agree = agreeing(records, read_keys(keys))
        believed = [each for each in agree if is_whole(each)]
    except Exception as error:  # whatever JSON makes of odd bytes is damage, too
        if not is_damage(error):
            raise
        if len(believed) < len(records):
            believed = []  # nothing says that what such rows hold is their own
    with contextlib.suppress(FileNotFoundError):
        os.unlink(root / "index" / f"{name}.idx")
    if records and len(believed) == len(records):
        _put_aside(keys, mark)
        try:
            _publish(root, name, records)
        except BaseException:  # the disk is full, say
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{keys}{mark}", keys)
            raise
        return "its keys are made again from its rows"
    if believed:
        # Under another name, since lines of the old one may be known to somebody.
        _publish(root, fold.segment_name(ulid_ms(name), [name]), believed)
    _put_aside(keys, mark)
    _put_aside(rows, mark)
    what = f"put aside (log/*{mark}); "
    if believed:
        what += f"{len(believed)} of its {len(records)} rows, whole and as its keys say, stay; "
    return f"{what}what is lost is made again when needed"


def _records(rows: Path) -> list[Record]:
    """Return the rows of a segment; none where its file is gone or damaged."""
    try:
        return list(read_records(rows))
    except Exception as error:
        if not is_damage(error):
            raise
        return []


def _publish(root: Path, name: str, records: list[Record]) -> None:
    table = table_of(in_order(records))
    fold.publish_segment(root, name, table, keys_table(table), metadata_for(table))


def _put_aside(path: Path, mark: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, f"{path}{mark}")
