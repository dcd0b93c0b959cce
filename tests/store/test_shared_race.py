"""Writers, two who merge and delete, and readers at once: no row is lost or counted twice.

`NBCACHE_TEST_ROUNDS` says how many results each writer sends, `NBCACHE_TEST_STORES` to which stores
("folder s3 gcs azure").
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcache.engine.record.query import fetch
from nbcache.model.digest import Digest
from nbcache.store.remote.layout import BLOBS
from nbcache.store.remote.shared import Shared
from tests.forked import Forked
from tests.store.shared_race import opened
from tests.store.ticking import STORES, Ticks, a_store
from tests.waiting import PATIENCE_S

ROUNDS = int(os.environ.get("NBCACHE_TEST_ROUNDS", "5"))
TIDIERS, WRITERS = ("one", "two"), ("anna", "ben")


def start(root: Path, what: str, name: str, *words: str) -> Forked:
    return Forked(root, name, "tests.store.shared_race", what, str(root), name, *words)


def sent(root: Path) -> dict[str, str]:
    """Return the rows that writers have sent so far, with their blobs."""
    lines = [
        line.split()
        for name in WRITERS
        if (root / f"sent-{name}").exists()
        for line in (root / f"sent-{name}").read_text().splitlines()
        if line.count(" ") == 2
    ]
    return {row: blob for row, blob, _ in lines}


def check(root: Path, shared: Shared) -> int:
    """Read all there is, as any reader does; return how many rows there are."""
    expected = sent(root)
    with Ticks(root).at_work(shared.root.parents[1].name):
        shared.mirror.read_whole_log()
    found = {record["id"]: record for record in shared.log.records(("attempt",))}
    assert expected.keys() <= found.keys(), "a row is lost"
    for row, blob in expected.items():
        assert shared.log.find(Digest(found[row]["hash"])) is not None
        assert found[row]["outputs"][0]["blob"] == blob
    counted = Counter(row for (row,) in fetch(shared, "SELECT id FROM attempts"))
    assert set(counted.values()) <= {1}, "a row is counted twice"
    assert counted.keys() >= expected.keys()
    return len(found)


@pytest.fixture(params=STORES)
def root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """Give the folder of a race around an empty store."""
    with a_store(request.param, tmp_path, monkeypatch) as url:
        (tmp_path / "where").write_text(url)
        yield tmp_path


@pytest.mark.timeout(600 + 20 * ROUNDS)
def test_nothing_is_lost_or_doubled_while_two_merge_and_delete_beside_writers(root: Path) -> None:
    cache, patient = opened(root, "patient")
    tidiers = [start(root, "tidy", name) for name in TIDIERS]
    writers = [start(root, "write", name, str(ROUNDS)) for name in WRITERS]
    looks = 0
    try:
        while any(each.goes_on for each in writers):
            check(root, patient)
            fresh, other = opened(root, f"fresh-{looks}")
            check(root, other)
            other.close()
            fresh.close()
            looks += 1
        (root / "stop").touch()
        told = [each.ended(PATIENCE_S) for each in (*writers, *tidiers)]
    finally:
        for each in (*tidiers, *writers):
            each.kill()
    worked = [tuple(map(int, said.split())) for said in told[len(writers) :]]

    assert check(root, patient) == ROUNDS * len(WRITERS)
    assert min(rounds for rounds, _, _ in worked) > 0, worked
    assert sum(merged for _, merged, _ in worked) > ROUNDS, worked
    assert sum(deleted for _, _, deleted in worked) > 0, worked
    kept = {f"b3:{entry.key.rpartition('/')[2]}" for entry in patient.store.list(BLOBS)}
    assert kept >= set(sent(root).values())
    patient.close()
    cache.close()
