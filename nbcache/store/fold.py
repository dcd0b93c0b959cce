"""Folding: moving rows from journals into segments. Never loses or edits a row.

Each step leaves a folder that readers understand, so being killed between any two of them costs
nothing but rubbish under `tmp/`; docs/format.md has the steps. Takes locks on what it folds only.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_digest

from nbcache.model.ids import make_ulid, ulid_ms
from nbcache.model.row import Record
from nbcache.store.columns import record_of, table_of
from nbcache.store.files import (
    full_disk_error,
    is_full,
    lock_left,
    new_ulid,
    remove,
    sync_file,
    sync_folder,
    write_whole,
)
from nbcache.store.index import SegmentIndex, StaleIndexError, build
from nbcache.store.index_query import index_of_file
from nbcache.store.journal import GONE, is_of_this_boot, whole_records
from nbcache.store.segment import (
    FORMAT,
    KEYS,
    ROWS,
    in_order,
    is_damage,
    keys_table,
    metadata_for,
    metadata_of,
    open_parquet,
    read_records,
    write_table,
)

FOREIGN_IDLE_S = 86_400.0  # a journal of another machine is left alone until it is this old
RUBBISH_S = 86_400.0
_LONG_RUN_S = 30 * 86_400.0  # a clean-up knows which runs go on, and takes the rest at once
_MAX_ROWS = 50_000  # folded at once, and
_MAX_BYTES = 256 << 20  # of journals: what memory is needed for
_MANY_ROWS = 2_000  # of which an index is made by a query: for few it is quicker without DuckDB


@dataclass
class _Held:
    """A journal whose lock this process holds; `lines` is None where it was not read, since a
    segment had all of it at the first look."""

    path: Path
    descriptor: int
    size: int
    lines: list[bytes] | None

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(GONE)


def fold_journals(root: Path, folded: Callable[[], Mapping[str, int]] = dict) -> int:
    """Fold every journal that nobody writes any more; return the number of rows.

    `folded` names the journals that live segments hold already, with their bytes: somebody was
    killed before deleting them, or may not delete them.
    """
    total, seen, known = 0, set[str](), folded()
    while held := _take_journals(root, seen, known):
        try:
            total += _fold(root, held, folded())
        finally:
            for each in held:
                os.close(each.descriptor)
        seen.update(each.path.name for each in held)
    sweep(root)
    return total


def _fold(root: Path, held: Sequence[_Held], folded: Mapping[str, int]) -> int:
    records: dict[str, Record] = {}
    fresh = [each for each in held if folded.get(each.name) != each.size]
    for each in fresh:
        for line in each.lines or ():
            record = json.loads(line)
            records.setdefault(record["id"], record)
    if records:
        sources = sorted((each.name, each.size) for each in fresh if each.lines)
        name = segment_name(
            max(_milliseconds(each) for each in records.values()),
            [f"{source}:0-{size}" for source, size in sources],
        )
        rows = in_order(records.values())
        table = table_of(rows)
        meta = metadata_for(table, sources=sources)
        index = build(zip(rows, range(len(rows)), strict=True), meta)
        publish_segment(root, name, table, keys_table(table), meta, index)
    for each in held:
        if each.lines is not None or each not in fresh:
            _delete_journal(each)
    return len(records)


def segment_name(milliseconds: int, sources: Sequence[str]) -> str:
    """Return the name that a segment made of these sources has, whoever makes it."""
    return make_ulid(max(milliseconds, 0), xxh3_128_digest("\n".join(sources).encode())[:10])


def _milliseconds(record: Record) -> int:
    at = record.get("at")
    return at // 1000 if isinstance(at, int) else 0


def bytes_left(root: Path, folded: Mapping[str, int]) -> int:
    """Return the bytes of the journals that `fold_journals` would make a segment of now."""
    total = 0
    for path in _foldable(root):
        descriptor = lock_left(path)
        if descriptor is not None:
            size = os.fstat(descriptor).st_size
            total += size if folded.get(path.name.removesuffix(GONE)) != size else 0
            os.close(descriptor)
    return total


def _foldable(root: Path) -> Iterator[Path]:
    """Yield the journals that may be taken, if nobody writes them."""
    for name in sorted(os.listdir(root / "journal")):
        path = root / "journal" / name
        if not path.is_symlink() and (is_of_this_boot(name) or _is_abandoned(root, path)):
            yield path  # a link leads to a cache that may only be read


def _take_journals(root: Path, seen: Container[str], known: Mapping[str, int]) -> list[_Held]:
    held: list[_Held] = []
    rows = size = 0
    for path in _foldable(root):
        if rows >= _MAX_ROWS or size >= _MAX_BYTES:
            break
        each = None if path.name in seen else _take_journal(path, known)
        if each is not None:
            held.append(each)
            if each.lines is not None:
                rows, size = rows + len(each.lines), size + each.size
    return held


def _take_journal(path: Path, known: Mapping[str, int]) -> _Held | None:
    """Lock a journal, and read it if no segment has it; None: somebody holds or has just folded
    it."""
    descriptor = lock_left(path)
    if descriptor is None:
        return None
    try:
        size, data = os.fstat(descriptor).st_size, b""
        if known.get(path.name.removesuffix(GONE)) == size:
            return _Held(path, descriptor, size, None)
        while len(data) < size:
            piece = os.pread(descriptor, size - len(data), len(data))
            if not piece:
                break
            data += piece
    except OSError:
        os.close(descriptor)
        return None
    lines: list[bytes] = []
    for payload, _ in whole_records(data):
        lines += payload.split(b"\n")[:-1]
    return _Held(path, descriptor, len(data), lines)


def _is_abandoned(root: Path, path: Path) -> bool:
    """Say whether a journal of another machine or boot was left alone for a day."""
    try:
        age = server_time(root) - os.stat(path).st_mtime
    except OSError:
        return False
    return age > FOREIGN_IDLE_S


def server_time(root: Path) -> float:
    """Return the time in seconds since 1970 by the clock of the cache's file server."""
    probe = root / "tmp" / f"clock-{new_ulid()}"
    write_whole(probe, b"")
    try:
        return os.stat(probe).st_mtime
    finally:
        remove(probe)


def _delete_journal(held: _Held) -> None:
    """Delete a folded journal, unless its writer turned out to be alive.

    Another user's journal may have to stay (in a folder with the sticky bit): segments name it.
    """
    gone = held.path.with_name(held.name + GONE)
    try:
        os.rename(held.path, gone)
        if os.stat(gone).st_size == held.size:
            os.unlink(gone)
    except (FileNotFoundError, PermissionError):
        pass


def publish_segment(
    root: Path, name: str, rows: Any, keys: Any, meta: Record, index: bytes | None = None
) -> None:
    """Write a segment pair and its index, made of the keys where none is given, synced to disk; the
    keys file last.

    Raises:
        CannotKeepError: the disk is full; there is no such segment, then.
    """
    temporary, log = root / "tmp", root / "log"
    final_rows, final_keys = log / (name + ROWS), log / (name + KEYS)
    if final_keys.exists():
        return  # somebody was killed after this step and before the next
    marker = new_ulid()
    new_rows, new_keys = temporary / f"{marker}{ROWS}", temporary / f"{marker}{KEYS}"
    try:
        write_table(new_rows, rows, {"format": FORMAT, "rows": meta["rows"]})
        write_table(new_keys, keys, meta)
        sync_file(new_rows)
        sync_file(new_keys)
        write_index(root, f"{name}.idx", index_of(new_keys) if index is None else index)
        os.replace(new_rows, final_rows)
        os.replace(new_keys, final_keys)
        sync_folder(log)
    except OSError as error:
        if is_full(error):
            raise full_disk_error(root, "a segment of the log") from error
        raise
    finally:
        remove(new_rows)
        remove(new_keys)


def index_of(keys: Path) -> bytes | mmap.mmap:
    """Return the bytes of the index of a keys file, made in memory where the disk has no room.

    Raises:
        FileNotFoundError: it was merged away.
        StoreError, and whatever Parquet or JSON make of odd bytes: it is damaged.
    """
    with open_parquet(keys) as file:
        meta = metadata_of(file, keys)
        if file.metadata.num_rows >= _MANY_ROWS:
            with contextlib.suppress(OSError):  # no room on the disk, which is to be cleaned up
                return index_of_file(keys, meta)
        lines = file.read(use_threads=False).to_pylist()
        return build(((record_of(line), line["place"]) for line in lines), meta)


def write_index(root: Path, name: str, data: bytes | mmap.mmap) -> None:
    """Put a derived index in its place, whole."""
    path = root / "index" / name
    new = root / "tmp" / f"{new_ulid()}.idx"
    try:
        write_whole(new, memoryview(data), sync=True)
        path.parent.mkdir(exist_ok=True)
        os.replace(new, path)
    finally:
        remove(new)


def open_index(root: Path, name: str, *, write: bool) -> SegmentIndex:
    """Return a segment's index, made again from its keys file where it is not usable, or from its
    rows where that is damaged.

    Raises:
        FileNotFoundError: the segment was merged away.
        DamagedSegmentError: all of it is damaged.
        StoreError: it may not be read, or is of a later version.
    """
    try:
        return SegmentIndex.open(root / "index" / f"{name}.idx")
    except (StaleIndexError, ValueError):
        pass
    try:
        data = rebuilt_index(root, name)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever JSON or DuckDB make of odd bytes is damage, too
        if not is_damage(error) or not (root / "log" / (name + ROWS)).exists():
            raise
        data = _index_from_rows(root, name)
    if write:
        with contextlib.suppress(OSError):  # derived: the next reader makes it again
            write_index(root, f"{name}.idx", data)
    return SegmentIndex(data, check=False)


def rebuilt_index(root: Path, name: str) -> bytes | mmap.mmap:
    """Return the bytes of a segment's index, made from its keys file."""
    return index_of(root / "log" / (name + KEYS))


def _index_from_rows(root: Path, name: str) -> bytes:
    table = table_of(list(read_records(root / "log" / (name + ROWS))))
    lines = keys_table(table).to_pylist()
    return build(((record_of(line), line["place"]) for line in lines), metadata_for(table))


def sweep(root: Path) -> None:
    """Delete what killed processes left a day ago: temporary files, halves of segments."""
    now = time.time()
    for folder in ("tmp", "log", "index"):
        try:
            entries = list(os.scandir(root / folder))
        except FileNotFoundError:  # derived folders may be deleted at any time
            continue
        for entry in entries:
            try:
                old = now - made_at(entry) > RUBBISH_S
                if not old:
                    continue
                if entry.is_file(follow_symlinks=False) and _is_rubbish(root, entry):
                    os.unlink(entry.path)
                elif folder == "tmp" and _is_old_folder(entry, now):
                    shutil.rmtree(entry.path, ignore_errors=True)
            except OSError:
                continue


def _is_old_folder(entry: os.DirEntry[str], now: float) -> bool:
    """Say whether a folder in tmp/ is over: a run keeps its own for as long as it takes."""
    if not entry.is_dir(follow_symlinks=False):
        return False
    return not entry.name.startswith("run-") or now - made_at(entry) > _LONG_RUN_S


def made_at(entry: os.DirEntry[str]) -> float:
    """Return when a file was made: a result that was moved here keeps its own old mtime."""
    made = entry.stat(follow_symlinks=False).st_mtime
    try:
        return max(made, ulid_ms(entry.name[:26]) / 1000)
    except ValueError:
        return made


def _is_rubbish(root: Path, entry: os.DirEntry[str]) -> bool:
    """Say whether a file belongs to no segment."""
    for suffix in (ROWS, ".idx"):
        if entry.name.endswith(suffix):
            return not (root / "log" / (entry.name.removesuffix(suffix) + KEYS)).exists()
    return entry.path.startswith(str(root / "tmp") + os.sep)
