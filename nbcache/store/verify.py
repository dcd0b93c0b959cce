"""Check a whole cache: every blob, row, segment, journal, and that what rows name is there.

Only reads. A *problem* is something that breaks a promise of docs/format.md; a *leftover* is what a
killed process may leave (it costs space and nothing else); an *orphan* is a blob that no row names
(a clean-up may delete it, once it is old enough not to belong to a task that is about to end). What
came from another cache and lacks its bytes is *away*: they are fetched when somebody reads them.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nbcache.errors import NbcacheError, StoreError
from nbcache.model.digest import Digest, is_blob_name
from nbcache.model.row import Record
from nbcache.model.signature import ORIGIN, SIGNATURE, SIGNER, Standing
from nbcache.store.cache import Cache
from nbcache.store.columns import KEYED_KINDS, record_of
from nbcache.store.files import is_alive, owner_of
from nbcache.store.fold import rebuilt_index
from nbcache.store.index import SegmentIndex, StaleIndexError
from nbcache.store.journal import read_from
from nbcache.store.references import references
from nbcache.store.segment import (
    KEYS,
    ROWS,
    is_damage,
    open_parquet,
    read_records,
    segment_name,
)
from nbcache.store.signing import standing_of
from nbcache.store.soundness import is_whole

_SIGNED = frozenset((SIGNATURE, SIGNER))
_INLINE_PORT, _INLINE_ROW = 4096, 16384
_MISSING = "is missing"


Fault = Literal["", "segment", "index", "folder", "mode", "digest", "gone", "lost"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong: `kind` is blob, row, segment, journal or index; `place` a path or row id.

    `fault` says what `repair` can do something about.
    """

    kind: str
    place: str
    what: str
    fault: Fault = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.place}: {self.what}"


@dataclass(slots=True)
class Report:
    """What `verify` found."""

    problems: list[Problem] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    orphans: list[Digest] = field(default_factory=list)
    away: int = 0  # results
    rows: int = 0
    segments: int = 0
    journals: int = 0
    blobs: int = 0
    bytes: int = 0

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(cache: Cache, *, deep: bool = True, shared: bool = False) -> Report:
    """Check a cache; with `deep` read every blob, else only look at its size.

    shared: a shared cache stands behind it, which brings what is not there.

    Safe beside running processes: what they are just writing is a leftover at worst.
    """
    report = Report()
    cache.log.refresh(relist=True)
    rows: dict[str, Record] = {}
    for record in _journal_rows(cache, report):
        _check_row(record, rows, report)
    for record in _segment_rows(cache, report):
        _check_row(record, rows, report)
    report.rows = len(rows)
    _check_signatures(rows.values(), report)
    _check_blobs(cache, report, deep)
    _check_references(cache, rows, report, shared)
    _list_leftovers(cache, rows, report)
    return report


def _check_row(record: Record, rows: dict[str, Record], report: Report) -> None:
    row_id = record.get("id")
    if not isinstance(row_id, str) or not isinstance(record.get("kind"), str):
        report.problems.append(Problem("row", str(row_id), "has no id or kind"))
        return
    if row_id in rows and rows[row_id] != record:
        report.problems.append(Problem("row", row_id, "is there twice with different content"))
    rows[row_id] = record
    inline = [len(port.get("inline") or "") * 3 // 4 for port in record.get("outputs") or ()]
    if inline and (max(inline) > _INLINE_PORT or sum(inline) > _INLINE_ROW):
        report.problems.append(Problem("row", row_id, "holds more inline bytes than it may"))


def _journal_rows(cache: Cache, report: Report) -> Iterator[Record]:
    for path in sorted((cache.root / "journal").iterdir()):
        try:
            lines, end = read_from(path)
            size = path.stat().st_size
        except FileNotFoundError:
            continue  # folded just now
        except OSError as error:
            said = f"cannot be read ({error.strerror}): its rows do not count"
            report.problems.append(Problem("journal", path.name, said))
            continue
        report.journals += 1
        if end < size:
            report.leftovers.append(f"{path.name}: a torn record of {size - end} bytes")
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                report.problems.append(Problem("journal", path.name, "a line is no JSON"))


def _segment_rows(cache: Cache, report: Report) -> Iterator[Record]:
    """Yield the rows of all segments, replaced ones too, each pair checked against itself."""
    folder = cache.root / "log"
    for path in sorted(folder.glob("*" + KEYS)):
        name = segment_name(path.name)
        if name is None:
            continue
        report.segments += 1
        try:
            records = list(read_records(folder / (name + ROWS)))
            keys = read_keys(path)
        except (NbcacheError, OSError, ValueError) as error:
            if path.exists():  # else it was merged away just now
                fault: Fault = "segment" if is_damage(error) else ""
                report.problems.append(Problem("segment", name, str(error), fault))
            continue
        if not all(map(is_whole, records)):
            what = "a row in it lacks what all rows of its kind have"
            report.problems.append(Problem("segment", name, what, "segment"))
            continue
        _check_pair(name, records, keys, report)
        _check_index(cache.root, name, report)
        yield from records


def read_keys(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a keys file."""
    with open_parquet(path) as file:
        lines: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
        return lines


def agreeing(records: list[Record], keys: list[dict[str, Any]]) -> list[Record]:
    """Return those rows of a segment of which its keys say the same, and those that have none."""
    key_at = {key.get("place"): key for key in keys}
    return [
        record
        for place, record in enumerate(records)
        if (place in key_at) == (record.get("kind") in KEYED_KINDS)
        and (place not in key_at or _is_of(key_at[place], record))
    ]


def _is_of(key: dict[str, Any], record: Record) -> bool:
    told = record_of(key)
    names = (key.keys() | told.keys()) - {"place", "extra"}
    return all(record.get(name) == told.get(name) for name in names)


def _check_pair(
    name: str, records: list[Record], keys: list[dict[str, Any]], report: Report
) -> None:
    differ = len(records) - len(agreeing(records, keys))
    if differ or len(keys) != sum(each.get("kind") in KEYED_KINDS for each in records):
        what = f"its keys and rows do not match ({differ} of {len(records)} rows)"
        report.problems.append(Problem("segment", name, what, "segment"))


def _check_index(root: Path, name: str, report: Report) -> None:
    path = root / "index" / f"{name}.idx"
    try:
        data = path.read_bytes()
        index = SegmentIndex(data, check=True)
    except (OSError, StaleIndexError, ValueError):
        return  # derived: the next reader makes it again
    if not index.says_the_same(SegmentIndex(rebuilt_index(root, name), check=False)):
        report.problems.append(
            Problem("index", name, "does not say what its keys file says", "index")
        )


def _check_signatures(rows: Iterable[Record], report: Report) -> None:
    """A signature fits the row that bears it, whoever made it."""
    for record in rows:
        signed = not _SIGNED.isdisjoint(record)
        if signed and standing_of(record, whole=True) is Standing.FORGED:
            by = record.get("user") or "somebody"
            what = f"its signature does not fit; it says that it is {by}'s"
            report.problems.append(Problem("row", record["id"], what))


def _check_blobs(cache: Cache, report: Report, deep: bool) -> None:
    for path in cache.blobs.folder.rglob("*"):
        try:
            found = path.lstat()
        except FileNotFoundError:  # cleaned up just now
            continue
        if not stat.S_ISREG(found.st_mode):
            continue
        relative = str(path.relative_to(cache.root))
        if not is_blob_name(f"b3:{path.name}"):
            report.leftovers.append(relative)  # put aside as damaged
            continue
        report.blobs += 1
        report.bytes += found.st_size
        if path.parent.name != path.name[:2]:
            report.problems.append(Problem("blob", relative, "lies in the wrong folder", "folder"))
        if found.st_mode & 0o222:
            report.problems.append(Problem("blob", relative, "can be written to", "mode"))
        if deep and not cache.blobs.verify(Digest("b3:" + path.name)) and path.exists():
            report.problems.append(
                Problem("blob", relative, "its bytes have another digest", "digest")
            )


def _check_references(
    cache: Cache, rows: Mapping[str, Record], report: Report, shared: bool
) -> None:
    """Every output of a result that was made here and may be used is there, with its size."""
    named: set[str] = set()
    lacking: list[tuple[Record, str]] = []
    away: set[str] = set()
    lost: set[str] = set()
    told = {record.get("row") for record in rows.values() if record["kind"] == "evict"}
    for row_id, record in rows.items():
        if record["kind"] == "use" and record.get("cached_from") not in rows and row_id not in told:
            lost.add(row_id)
        for digest, kind, size in references(record):
            named.add(digest)
            try:
                named.update(_check_blob(cache, digest, kind, size))
            except StoreError as error:
                if shared and record.get(ORIGIN) and _is_missing(error):
                    away.add(row_id)
                else:
                    lacking.append((record, str(error)))
    report.away = sum(_counts(cache, rows[each]) for each in away)
    if lost:  # unless what they took was written after its journal was read
        unheard = Report()
        again = {*map(_id, _journal_rows(cache, unheard)), *map(_id, _segment_rows(cache, unheard))}
        lost = {each for each in lost if rows[each].get("cached_from") not in again}
    for each in sorted(lost):
        what = "was cached from a row that is gone"
        report.problems.append(Problem("row", each, what, "lost"))
    if lacking:
        cache.log.refresh(relist=True)  # a clean-up may have come
    for record, text in lacking:
        if _counts(cache, record):
            report.problems.append(Problem("row", str(record["id"]), text, "gone"))
    for path in cache.blobs.folder.rglob("*"):
        if is_blob_name(f"b3:{path.name}") and "b3:" + path.name not in named:
            report.orphans.append(Digest("b3:" + path.name))


def _id(record: Record) -> object:
    return record.get("id")


def _is_missing(error: StoreError) -> bool:
    """Say whether bytes are not there at all, so that a shared cache may bring them."""
    return str(error).endswith(_MISSING)


def _counts(cache: Cache, record: Record) -> bool:
    """Say whether a row is the one that a look-up would use now."""
    if record["kind"] != "attempt" or record.get("status") != "completed":
        return False
    entry = cache.log.find(Digest(record["hash"]))
    return entry is not None and entry.row_id == record["id"]


def _check_blob(cache: Cache, digest: str, kind: str, size: int | None) -> set[str]:
    """Return the blobs that a tree names.

    Raises:
        StoreError: something is missing or has another size.
    """
    blob = Digest(digest)
    if not cache.blobs.has(blob, None if kind == "tree" else size):
        there = "has another size" if cache.blobs.has(blob) else _MISSING
        raise StoreError(f"its blob {digest} {there}")
    if kind != "tree":
        return set()
    entries = [each for each in cache.blobs.open_tree(blob) if each.blob is not None]
    for entry in entries:
        assert entry.blob is not None
        if not cache.blobs.has(entry.blob, entry.size):
            raise StoreError(f"the file {entry.path!r} of its tree {digest} {_MISSING}")
    return {str(each.blob) for each in entries}


def _list_leftovers(cache: Cache, rows: Container[str], report: Report) -> None:
    for path in sorted(cache.tmp.iterdir()):
        owner = owner_of(path.name)
        if owner is None or not is_alive(owner):
            report.leftovers.append(f"tmp/{path.name}")
    keys = {path.name.removesuffix(KEYS) for path in (cache.root / "log").glob("*" + KEYS)}
    for suffix, folder in ((ROWS, cache.root / "log"), (".idx", cache.root / "index")):
        for path in sorted(folder.glob("*" + suffix)):
            name = path.name.removesuffix(suffix)
            if name in keys:
                continue
            what = _without_keys(path, rows) if suffix == ROWS else ""
            if not what:
                report.leftovers.append(os.path.relpath(path, cache.root))
            elif not path.with_name(name + KEYS).exists():  # else it was published just now
                report.problems.append(Problem("segment", name, what, "segment"))


def _without_keys(path: Path, rows: Container[str]) -> str:
    """Say what is wrong with a rows file that has no keys: nothing, where its rows are elsewhere,
    too, as those of one are that a killed process left."""
    what = "its keys file is gone"
    try:
        is_left = all(each.get("id") in rows for each in read_records(path, columns=["id"]))
    except FileNotFoundError:
        return ""
    except (NbcacheError, OSError, ValueError) as error:
        return f"{what}, and {error}"
    return "" if is_left or segment_name(path.name.removesuffix(ROWS) + KEYS) is None else what
