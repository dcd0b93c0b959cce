"""Blobs that no row needs go at once in a quiet moment, else by way of the trash."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcache.errors import BlobMissingError
from nbcache.model.digest import Digest
from nbcache.model.row import AttemptRow, EvictRow, Port
from nbcache.model.value import Stored
from nbcache.store.cache import Cache
from nbcache.store.collect import collect
from nbcache.store.stock import take_stock
from tests.store.rows import attempt, hash_of, new_id

HOURS_AGO = time.time() - 5 * 3600


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache.open(tmp_path / "cache") as opened:
        yield opened


@pytest.fixture
def other(cache: Cache) -> Iterator[Cache]:
    """The cache as another process has it open, which is at work."""
    with Cache.open(cache.root) as opened, opened.activity.working():
        yield opened


def result(cache: Cache, name: str = "a", data: bytes = b"data") -> tuple[AttemptRow, Digest]:
    blob = cache.blobs.put_bytes(data)
    row = attempt(
        name,
        id=new_id(),
        outputs=(Port("y", Stored(hash_of(name), "value", "bytes", len(data), blob=blob)),),
    )
    cache.log.append([row])
    return row, blob


def evict(cache: Cache, row: AttemptRow, at: float) -> None:
    cache.log.append([EvictRow(id=new_id(), at=int(at * 1e6), row=row.id)])


def lies_there(cache: Cache, blob: Digest) -> bool:
    """Say so without asking for it, which would bring it back."""
    return (cache.blobs.folder / blob[3:5] / blob[3:]).exists()


def long_untouched(cache: Cache, blob: Digest) -> float:
    """Return a grace time that is over for a blob kept just now."""
    os.utime(cache.blobs.folder / blob[3:5] / blob[3:], (HOURS_AGO, HOURS_AGO))
    return -1.0


def test_in_a_quiet_moment_what_no_row_needs_goes_at_once(cache: Cache) -> None:
    kept, blob = result(cache), cache.blobs.put_bytes(b"nobody's")

    done = collect(cache)

    assert (done.freed, done.files, done.waiting) == (8, 1, 0)
    assert not lies_there(cache, blob)
    assert cache.blobs.read(kept[1]) == b"data"
    assert not os.listdir(cache.root / "trash")


def test_while_somebody_works_what_was_just_evicted_stays(cache: Cache, other: Cache) -> None:
    row, blob = result(cache)
    evict(cache, row, time.time())

    done = collect(cache)

    assert (done.freed, done.waiting) == (0, 4)
    assert lies_there(cache, blob)


def test_what_was_evicted_long_ago_goes_by_way_of_the_trash(cache: Cache, other: Cache) -> None:
    row, blob = result(cache)
    evict(cache, row, HOURS_AGO)
    grace = long_untouched(cache, blob)

    put_aside = collect(cache, grace_s=grace)

    assert (put_aside.freed, put_aside.waiting) == (0, 4)
    assert not lies_there(cache, blob)
    done = collect(cache, grace_s=grace)
    assert (done.freed, done.waiting) == (4, 0)
    with pytest.raises(BlobMissingError):
        cache.blobs.read(blob)


def test_a_reader_brings_back_what_is_in_the_trash(cache: Cache, other: Cache) -> None:
    row, blob = result(cache)
    evict(cache, row, HOURS_AGO)
    collect(cache, grace_s=long_untouched(cache, blob))
    assert not lies_there(cache, blob)

    assert other.blobs.read(blob) == b"data"

    assert lies_there(cache, blob)


@pytest.mark.parametrize("how", ["has", "path", "materialise"])
def test_each_way_to_a_blob_looks_into_the_trash(cache: Cache, other: Cache, how: str) -> None:
    row, blob = result(cache)
    evict(cache, row, HOURS_AGO)
    collect(cache, grace_s=long_untouched(cache, blob))

    if how == "has":
        assert other.blobs.has(blob, 4)
    elif how == "path":
        assert other.blobs.path(blob).read_bytes() == b"data"
    else:
        other.blobs.materialise(blob, "file", cache.work / "placed")
        assert (cache.work / "placed").read_bytes() == b"data"


def test_a_row_that_turns_up_brings_its_blob_back_from_the_trash(
    cache: Cache, other: Cache
) -> None:
    row, blob = result(cache)
    evict(cache, row, HOURS_AGO)
    collect(cache, grace_s=long_untouched(cache, blob))
    assert not lies_there(cache, blob)
    late = attempt("b", id=new_id(), outputs=row.outputs)  # kept before, its row came now
    other.log.append([late])

    done = collect(cache, grace_s=-1.0)

    assert done.freed == 0
    assert lies_there(cache, blob)


def test_what_is_kept_again_counts_as_wanted(cache: Cache, other: Cache) -> None:
    row, blob = result(cache)
    evict(cache, row, HOURS_AGO)
    long_untouched(cache, blob)

    other.blobs.put_bytes(b"data")

    assert os.stat(cache.blobs.path(blob)).st_mtime > HOURS_AGO + 3600
    assert collect(cache).freed == 0
    assert lies_there(cache, blob)


def test_beside_work_that_leaves_no_rows_nothing_is_touched(cache: Cache) -> None:
    row, blob = result(cache)
    evict(cache, row, HOURS_AGO)
    grace = long_untouched(cache, blob)
    with Cache.open(cache.root) as other, other.activity.working(recorded=False):
        collect(cache, grace_s=grace)
        assert lies_there(cache, blob)


def test_a_journal_of_another_host_means_that_somebody_may_be_at_work(cache: Cache) -> None:
    blob = cache.blobs.put_bytes(b"nobody's")
    foreign = cache.root / "journal" / "elsewhere-00000000-01KAME4RM0000000000000JRN1"
    foreign.write_bytes(b"")

    assert collect(cache).waiting == 8
    os.utime(foreign, (0, 0))
    assert collect(cache).freed == 8
    assert not lies_there(cache, blob)


def test_a_result_that_a_run_uses_stays_also_when_its_row_is_evicted(cache: Cache) -> None:
    row, blob = result(cache)
    evict(cache, row, time.time())

    collect(cache, live=[row.run])

    assert lies_there(cache, blob)


def test_a_run_that_goes_on_brings_back_from_the_trash_what_it_uses(
    cache: Cache, other: Cache
) -> None:
    row, blob = result(cache)
    evict(cache, row, HOURS_AGO)
    collect(cache, grace_s=long_untouched(cache, blob))
    assert not lies_there(cache, blob)

    done = collect(cache, live=[row.run], grace_s=-1.0)

    assert done.freed == 0
    assert lies_there(cache, blob)


def test_a_row_that_came_after_the_look_keeps_its_blob(cache: Cache) -> None:
    blob = cache.blobs.put_bytes(b"data")
    stock = take_stock(cache)
    result(cache, data=b"data")

    collect(cache, stock=stock)

    assert lies_there(cache, blob)


def test_what_is_kept_again_between_the_look_and_the_trash_stays(
    cache: Cache, other: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, blob = result(cache)
    evict(cache, row, HOURS_AGO)
    grace = long_untouched(cache, blob)

    def keep_again(*_: object) -> bool:
        other.blobs.put_bytes(b"data")
        return True

    monkeypatch.setattr("nbcache.store.collect.is_due", keep_again)
    collect(cache, grace_s=grace)

    assert lies_there(cache, blob)


def test_what_is_kept_again_while_it_goes_to_the_trash_comes_back(
    cache: Cache, other: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, blob = result(cache)
    evict(cache, row, HOURS_AGO)
    grace = long_untouched(cache, blob)
    rename = os.rename

    def keep_again_and_rename(source: Path, aside: Path) -> None:
        os.utime(source)
        rename(source, aside)

    monkeypatch.setattr(os, "rename", keep_again_and_rename)
    collect(cache, grace_s=grace)

    assert lies_there(cache, blob)


def test_a_forked_child_does_not_hold_its_parents_lock(cache: Cache) -> None:
    with cache.activity.working():
        child = os.fork()
        if not child:
            os.read(0, 0)
            os._exit(0 if cache.activity._held == {} else 1)
        assert os.waitpid(child, 0)[1] == 0
    with cache.activity.quiet() as is_quiet:
        assert is_quiet
