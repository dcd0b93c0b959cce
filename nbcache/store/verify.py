"""Check a whole cache: every blob, row, segment, journal, and that what rows name is there.

Only reads. A *problem* is something that breaks a promise of docs/format.md; a *leftover* is what a
killed process may leave (it costs space and nothing else); an *orphan* is a blob that no row names
(a clean-up may delete it, once it is old enough not to belong to a task that is about to end). What
came from another cache and lacks its bytes is *away*: they are fetched when somebody reads them.
"""

from __future__ import annotations

import json
import mmap
import os
import stat
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nbcache.errors import DamagedSegmentError, NbcacheError
from nbcache.model.digest import Digest, is_blob_name
from nbcache.model.row import Record
from nbcache.store.cache import Cache
from nbcache.store.files import is_alive, owner_of
from nbcache.store.fold import rebuilt_index
from nbcache.store.index import SegmentIndex, StaleIndexError
from nbcache.store.journal import read_from
from nbcache.store.seen_rows import SeenRows, counts, look_at
from nbcache.store.segment import (
    KEYS,
    ROWS,
    is_damage,
    read_records,
    segment_name,
)
from nbcache.store.segment_pair import disagreement
from nbcache.store.soundness import is_whole

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
    rows = _read_rows(cache, report, shared)
    report.rows, report.away = len(rows.contents), rows.away
    _check_blobs(cache, report, deep)
    _check_references(cache, rows, report)
    _list_leftovers(cache, rows.contents, report)
    return report


def _read_rows(cache: Cache, report: Report, shared: bool) -> SeenRows:
    """Look at all rows, of replaced segments too; of a segment that is damaged none counts."""
    known = SeenRows()
    for record in _journal_rows(cache, report):
        found = look_at(record, known, known, cache, shared)
        report.problems += [Problem("row", *each) for each in found]
    for path in sorted((cache.root / "log").glob("*" + KEYS)):
        name = segment_name(path.name)
        if name is None:
            continue
        report.segments += 1
        rows, problems = SeenRows(), list[Problem]()
        try:
            if what := disagreement(path.with_name(name + ROWS), path):
                problems.append(Problem("segment", name, what, "segment"))
            for record in read_records(path.with_name(name + ROWS)):
                if not is_whole(record):
                    raise DamagedSegmentError("a row in it lacks what all rows of its kind have")
                found = look_at(record, rows, known, cache, shared)
                problems += [Problem("row", *each) for each in found]
        except (NbcacheError, OSError, ValueError) as error:
            if path.exists():  # else it was merged away just now
                fault: Fault = "segment" if is_damage(error) else ""
                report.problems.append(Problem("segment", name, str(error), fault))
            continue
        known.add(rows)
        report.problems += problems
        _check_index(cache.root, name, report)
    report.problems += [
        Problem("row", each, "is there twice with different content")
        for each in sorted(known.twice)
    ]
    return known


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


def _check_index(root: Path, name: str, report: Report) -> None:
    path = root / "index" / f"{name}.idx"
    try:
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        index = SegmentIndex(data, check=True)
    except (OSError, StaleIndexError, ValueError):
        return  # derived: the next reader makes it again
    if not index.says_the_same(SegmentIndex(rebuilt_index(root, name), check=False)):
        report.problems.append(
            Problem("index", name, "does not say what its keys file says", "index")
        )


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


def _check_references(cache: Cache, rows: SeenRows, report: Report) -> None:
    """Every output of a result that was made here and may be used is there, and what hits took."""
    lost = _lost(rows, rows.contents)
    if lost:  # unless what they took was written after its journal was read
        lost = _lost(rows, _read_rows(cache, Report(), shared=False).contents)
    for each in lost:
        what = "was cached from a row that is gone"
        report.problems.append(Problem("row", each, what, "lost"))
    if rows.lacking:
        cache.log.refresh(relist=True)  # a clean-up may have come
    for row_id, hash, text in rows.lacking:
        if counts(cache, row_id, hash):
            report.problems.append(Problem("row", row_id, text, "gone"))
    for path in cache.blobs.folder.rglob("*"):
        if is_blob_name(f"b3:{path.name}") and "b3:" + path.name not in rows.named:
            report.orphans.append(Digest("b3:" + path.name))


def _lost(rows: SeenRows, there: Container[object]) -> list[str]:
    """Return the hits on rows that are gone, of which no tombstone tells that they are lost."""
    gone = (each for each, taken in rows.taken.items() if taken not in there)
    return sorted(each for each in gone if each not in rows.evicted)


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
