"""Writers, two who merge and delete, and readers at once: no row is lost or counted twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from nbcache.engine.record.query import fetch
from nbcache.model.digest import Digest
from nbcache.store.cache import Cache
from nbcache.store.remote.folder import FolderStore
from nbcache.store.remote.layout import BLOBS
from nbcache.store.remote.shared import Shared
from tests.store.shared_race import opened
from tests.waiting import PATIENCE_S

ROUNDS = int(os.environ.get("NBCACHE_TEST_ROUNDS", "30"))  # of each writer
TIDIERS, WRITERS = ("one", "two"), ("anna", "ben")


def start(root: Path, what: str, name: str, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.store.shared_race", what, str(root), name, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


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
    shared.read_whole_log()
    found = {record["id"]: record for record in shared.log.records(("attempt",))}
    assert expected.keys() <= found.keys(), "a row is lost"
    for row, blob in expected.items():
        assert shared.log.find(Digest(found[row]["hash"])) is not None
        assert found[row]["outputs"][0]["blob"] == blob
    counted = Counter(row for (row,) in fetch(shared, "SELECT id FROM attempts"))
    assert set(counted.values()) <= {1}, "a row is counted twice"
    assert counted.keys() >= expected.keys()
    return len(found)


@pytest.mark.timeout(600 + 5 * ROUNDS)
def test_nothing_is_lost_or_doubled_while_two_merge_and_delete_beside_writers(
    tmp_path: Path,
) -> None:
    (tmp_path / "team").mkdir()
    cache, patient = opened(tmp_path, "patient")
    tidiers = [start(tmp_path, "tidy", name) for name in TIDIERS]
    writers = [start(tmp_path, "write", name, str(ROUNDS)) for name in WRITERS]
    looks = 0
    try:
        while any(each.poll() is None for each in writers):
            check(tmp_path, patient)
            fresh, other = opened(tmp_path, f"fresh-{looks}")
            check(tmp_path, other)
            other.close()
            fresh.close()
            looks += 1
    finally:
        (tmp_path / "stop").touch()
        told = [each.communicate(timeout=PATIENCE_S) for each in (*tidiers, *writers)]
    assert all(each.returncode == 0 for each in (*tidiers, *writers)), told
    worked = [tuple(map(int, out.split())) for out, _ in told[: len(tidiers)]]

    assert check(tmp_path, patient) == ROUNDS * len(WRITERS)
    assert min(rounds for rounds, _, _ in worked) > 0, worked
    assert sum(merged for _, merged, _ in worked) > ROUNDS, worked
    assert sum(deleted for _, _, deleted in worked) > 0, worked
    with Cache.open(tmp_path / "last"):
        store = FolderStore(tmp_path / "team")
        kept = {f"b3:{entry.key.rpartition('/')[2]}" for entry in store.list(BLOBS)}
    assert kept >= set(sent(tmp_path).values())
    patient.close()
    cache.close()
