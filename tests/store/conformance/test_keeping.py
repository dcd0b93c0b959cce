"""On every kind of store: results are merged, marked, evicted and deleted, and none is lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nbcache.engine.upkeep.shared_cleaning import clean_shared
from nbcache.model.digest import Digest
from nbcache.model.row import Port
from nbcache.model.value import Stored
from nbcache.notebook.fetching import shown_while_waiting
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.remote.compact import compact_shared
from nbcache.store.remote.layout import LOG, blob_key, week_of
from nbcache.store.remote.memory import MemoryStore
from nbcache.store.remote.sending import Sender, send_segment
from nbcache.store.remote.shared import Shared
from nbcache.store.segment import ROWS
from tests.store.conformance.places import AnyPlace
from tests.store.rows import attempt, hash_of
from tests.waiting import PATIENCE_S, wait_until


def test_a_cache_that_another_makes_at_the_same_moment_is_opened(tmp_path: Path) -> None:
    moments: list[Callable[[], None]] = []
    store = MemoryStore(
        on_request=lambda doing, key: moments.pop()() if doing == "list" and moments else None
    )
    made: list[str] = []
    with Cache.open(tmp_path / "anna") as cache, Cache.open(tmp_path / "ben") as bens:

        def make() -> None:
            made.append(Shared.open(store, cache.root, cache.blobs).id)

        moments.append(make)

        shared = Shared.open(store, bens.root, bens.blobs)

        assert [shared.id] == made


def test_of_a_large_segment_only_the_rows_that_are_needed_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, number in (("segment.GROUP_ROWS", 500), ("remote.mirror.GROUP_ROWS", 500)):
        monkeypatch.setattr(f"nbcache.store.{name}", number)
    monkeypatch.setattr("nbcache.store.remote.mirror.PART_BYTES", 100_000)
    asked: list[str] = []
    store = MemoryStore(on_request=lambda doing, key: asked.append(f"{doing} {key[:4]}"))
    with Cache.open(tmp_path / "anna") as cache, Cache.open(tmp_path / "ben") as bens:
        shared = Shared.open(store, cache.root, cache.blobs)
        rows = [attempt(f"{n}", id=new_ulid(), error=os.urandom(400).hex()) for n in range(2_000)]
        send_segment(shared, [row.record() for row in rows])
        size = max(entry.size for entry in store.list(LOG))
        reader = Shared.open(store, bens.root, bens.blobs)
        reader.mirror.refresh()
        asked.clear()

        (record,) = reader.mirror.records([rows[1_111].id])

        assert size > 500_000
        assert record["error"] == rows[1_111].error
        assert not list((reader.root / "log").glob(f"*{ROWS}"))
        assert set(asked) == {"get log/"}
        assert len(asked) <= 10
        assert len(reader.mirror.records([row.id for row in rows])) == len(rows)
        assert len(list((reader.root / "log").glob(f"*{ROWS}"))) == 1  # all of it


def test_who_waits_for_a_value_sees_how_far_it_is_and_may_break_off_for_himself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nbcache.notebook.fetching.EVERY_S", 0.01)
    shown: list[str] = []

    def break_off(doing: str, key: str) -> None:
        """Ctrl-C, once another waits for the same blob and something was shown."""
        if doing == "get" and key.startswith("blobs/") and not shown:
            other.start()
            shown.append(wait_until(lambda: capsys.readouterr().err))
            raise KeyboardInterrupt

    with Cache.open(tmp_path / "anna") as cache, Cache.open(tmp_path / "ben") as bens:
        store = MemoryStore(on_request=break_off)
        shared = Shared.open(store, bens.root, bens.blobs)
        blob = cache.blobs.put_bytes(b"x" * 5_000_000)
        store.put_file(blob_key(week_of(time.time_ns() // 1000), blob), cache.blobs.path(blob))
        came: list[bool] = []
        other = threading.Thread(target=lambda: came.append(shared.fetching.bring(blob)))
        shared.fetching.showing = shown_while_waiting

        with pytest.raises(KeyboardInterrupt):
            shared.fetching.bring_for_reader(blob)

        other.join(PATIENCE_S)
        assert came == [True]
        assert "fetching from the shared cache: 0 MB" in "".join(shown)


def test_a_shared_cache_is_merged_and_cleaned_in_steps(place: AnyPlace, tmp_path: Path) -> None:
    with Cache.open(tmp_path / "anna") as cache, Cache.open(tmp_path / "ben") as bens:
        shared = Shared.open(place.open(), cache.root, cache.blobs)
        sender = Sender(shared, cache.log, cache.blobs)
        for number in range(4):
            data = f"result {number} ".encode() * 600
            stored = Stored(
                hash_of(f"{number}"), "value", "bytes", len(data), cache.blobs.put_bytes(data)
            )
            made = attempt(f"{number}", id=new_ulid(), outputs=(Port("y", stored),))
            cache.log.append([made])
            assert sender.send(sender.waiting()).blobs == 1
        reader = Shared.open(place.open(), bens.root, bens.blobs)
        reader.mirror.refresh()

        assert compact_shared(shared, enough=1) == 4
        marked = clean_shared(shared, Selection(hashes=(hash_of("1")[5:],)), force=True)
        done = clean_shared(shared, Selection(), force=True, grace=0)

        assert (marked.marked, done.evicted) == (1, 1)
        assert {kind: count for kind, count in done.deleted.items() if count} == {"segments": 8}
        reader.mirror.refresh()
        found = [reader.find(hash_of(f"{number}")) for number in range(4)]
        assert [each is not None for each in found] == [True, False, True, True]
        for entry in filter(None, found):
            blob = entry.outputs[0].stored.blob
            assert blob is not None
            assert reader.fetching.bring(Digest(blob))
        assert sum(1 for _ in shared.store.list(LOG)) == 4  # the merged pair and the tombstone's
        reader.close()
        shared.close()
