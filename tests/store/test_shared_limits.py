"""What others put into a shared cache is no more than it says, or is not used."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from nbcache.errors import StoreError
from nbcache.model.digest import Digest, blob_digest
from nbcache.model.row import Port
from nbcache.model.value import Stored
from nbcache.store import segment
from nbcache.store.blobs import Blobs
from nbcache.store.cache import Cache
from nbcache.store.columns import table_of
from nbcache.store.journal import encode_row
from nbcache.store.remote import fetching
from nbcache.store.remote import mirror as mirroring
from nbcache.store.remote.layout import LOG, blob_key, week_of
from nbcache.store.remote.memory import MemoryStore
from nbcache.store.remote.sending import Sender, send_segment
from nbcache.store.remote.shared import Shared
from nbcache.store.segment import KEYS, ROWS, keys_table, metadata_for, write_table
from nbcache.store.tree import TreeEntry, manifest
from nbcache.store.weighing import MOST_OF_A_ROW
from tests.store.rows import attempt, hash_of

NOW_US = 1_763_770_000_000_000  # when `attempt` says that it was made
BYTES = b"0123456789"
BLOB = blob_digest(BYTES)


class Consumer:
    """One who uses a shared cache in memory, into which anybody may put anything."""

    def __init__(self, root: Path) -> None:
        self.store = MemoryStore()
        self.said: list[str] = []
        self.blobs: Blobs = Cache.open(root / "cache").blobs
        self.shared = Shared.open(self.store, root / "cache", self.blobs, trouble=self.said.append)
        self.root = root

    def open_again(self) -> None:
        """Open it as the next process does."""
        self.shared.close()
        self.shared = Shared.open(
            self.store, self.root / "cache", self.blobs, trouble=self.said.append
        )

    def put(self, name: str, rows: Any, keys: Any) -> None:
        """Put a segment there as it is."""
        for table, suffix in ((rows, ROWS), (keys, KEYS)):
            path = self.root / (name + suffix)
            write_table(path, table, metadata_for(rows))
            self.store.put_file(LOG + path.name, path)


@pytest.fixture
def consumer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Consumer]:
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / "settings"))
    made = Consumer(tmp_path)
    yield made
    made.shared.close()


def repeated(table: Any, column: str, text: str) -> Any:
    """Return the table with one text in all lines of a column, which a file keeps once."""
    index = table.column_names.index(column)
    array = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), [text])
    return table.set_column(index, column, array)


def records(count: int) -> list[Any]:
    port = Port("y", Stored(hash_of("y"), "value", "json", 1, inline=b"1"))
    rows = [attempt(str(number), outputs=(port,)) for number in range(count)]
    return [json.loads(encode_row(row)) for row in rows]


def test_keys_that_are_gigabytes_once_they_are_decoded_are_left_out(consumer: Consumer) -> None:
    table = table_of(records(600))
    heavy = repeated(keys_table(table), "tag", "x" * 1_000_000)
    consumer.put("01KAM000000000000000000001", table, heavy)
    consumer.shared.mirror.refresh()
    (said,) = consumer.said
    assert "its 600 rows are 60" in said
    assert consumer.shared.find(hash_of("0")) is None

    send_segment(consumer.shared, records(10))
    consumer.shared.mirror.refresh()

    assert consumer.shared.find(hash_of("0")) is not None
    assert consumer.said == [said]


@pytest.mark.parametrize(
    ("column", "size"), [("error", MOST_OF_A_ROW + 1), ("of a later version", 2_000_000)]
)
def test_rows_that_are_too_much_are_not_read(consumer: Consumer, column: str, size: int) -> None:
    table = table_of(records(100))
    keys = keys_table(table)
    if column not in table.column_names:
        table = table.append_column(column, pa.nulls(len(table), pa.string()))
    consumer.put("01KAM000000000000000000001", repeated(table, column, "x" * size), keys)
    consumer.shared.mirror.refresh()
    found = consumer.shared.find(hash_of("0"))
    assert found is not None

    with pytest.raises(StoreError, match="not read"):
        consumer.shared.mirror.records([found.row_id])


def test_of_large_rows_only_the_groups_that_are_asked_for_come_and_are_weighed(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "PART_BYTES", 0)
    monkeypatch.setattr(mirroring, "GROUP_ROWS", 10)
    monkeypatch.setattr(segment, "GROUP_ROWS", 10)
    table = table_of(records(100))
    heavy = [0 if 40 <= line < 50 else None for line in range(100)]
    texts = pa.DictionaryArray.from_arrays(pa.array(heavy, pa.int32()), ["x" * 20_000_000])
    column = table.column_names.index("error")
    large = table.set_column(column, "error", texts)
    consumer.put("01KAM000000000000000000001", large, keys_table(table))
    consumer.shared.mirror.refresh()
    ids = table["id"].to_pylist()

    wanted = [ids[line] for line in (2, 13, 57, 95)]
    assert [row["id"] for row in consumer.shared.mirror.records(wanted)] == wanted
    with pytest.raises(StoreError, match="not read"):
        consumer.shared.mirror.records([ids[2], ids[41]])

    assert list((consumer.root / "cache/tmp").iterdir()) == []
    mirror = consumer.shared.root
    assert list((mirror / "tmp").iterdir()) == list(mirror.glob(f"log/*{ROWS}")) == []


def with_results(consumer: Consumer, *contents: bytes) -> list[Digest]:
    """Put a row for each of these results there, but not the results."""
    rows = []
    for at, content in enumerate(contents):
        stored = Stored(hash_of("y"), "value", "bytes", len(content), blob=blob_digest(content))
        rows.append(json.loads(encode_row(attempt(f"r{at}", outputs=(Port("y", stored),)))))
    send_segment(consumer.shared, rows)
    consumer.shared.mirror.refresh()
    return [blob_digest(content) for content in contents]


def test_a_blob_that_was_not_there_is_offered_to_the_next_process(consumer: Consumer) -> None:
    (blob,) = with_results(consumer, BYTES)
    assert consumer.shared.find(hash_of("r0")) is not None
    assert not consumer.shared.fetching.bring(blob)
    assert consumer.shared.find(hash_of("r0")) is None, "asked for once in a process"
    consumer.store.put(blob_key(week_of(NOW_US), blob), BYTES)

    consumer.open_again()

    assert consumer.shared.find(hash_of("r0")) is not None
    assert consumer.shared.fetching.bring(blob)


def test_a_blob_that_is_gone_again_after_it_was_sent_anew_is_noted_again(
    consumer: Consumer,
) -> None:
    (blob,) = with_results(consumer, BYTES)
    fetching, key = consumer.shared.fetching, blob_key(week_of(NOW_US), blob)
    for _ in range(2):
        assert consumer.shared.find(hash_of("r0")) is not None
        assert not fetching.bring(blob)
        assert fetching.note_gone(blob, ())
        assert [note.name for note in consumer.shared.root.glob("damaged/*")] == [blob[3:]]
        consumer.store.put(key, BYTES)
        fetching.note_whole(blob)  # as who sends it anew does
        consumer.store.delete([key])


@pytest.mark.parametrize(("many", "level"), [(3, 3), (200, 2)])
def test_what_else_is_gone_is_looked_for_in_folders_and_for_many_blobs_in_whole_weeks(
    consumer: Consumer, many: int, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = with_results(consumer, *(b"%d" % number for number in range(many)))
    for number in range(many):
        assert consumer.shared.find(hash_of(f"r{number}")) is not None
    consumer.store.put(blob_key(week_of(NOW_US), blobs[1]), b"1")
    listed: list[str] = []
    real = consumer.store.list

    def spied(prefix: str) -> Iterator[Any]:
        listed.append(prefix)
        return real(prefix)

    monkeypatch.setattr(consumer.store, "list", spied)

    assert not consumer.shared.fetching.bring(blobs[0])
    assert consumer.shared.fetching.note_gone(blobs[0], ())

    assert len(listed) == len(set(listed))
    assert {at.count("/") for at in listed} == {level}, listed
    notes = {note.name for note in consumer.shared.root.glob("damaged/*")}
    assert notes == {blob[3:] for blob in blobs if blob != blobs[1]}


def test_manifests_are_fetched_of_the_oldest_folders_alone_to_see_what_else_is_gone(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_MANIFESTS", 2)
    manifests, rows = [], []
    for number in range(4):
        parts = {"blob": blob_digest(b"%d" % number), "identity": hash_of("x"), "size": 1}
        manifests.append(manifest([TreeEntry(b"a", "file", **parts)]))  # type: ignore[arg-type]
        stored = Stored(hash_of("y"), "tree", "tree", 1, blob=blob_digest(manifests[-1]))
        made = {"at": NOW_US - number, "outputs": (Port("y", stored),)}
        rows.append(json.loads(encode_row(attempt(f"r{number}", **made))))
    send_segment(consumer.shared, rows)
    consumer.shared.mirror.refresh()
    for number, data in enumerate(manifests):
        consumer.store.put(blob_key(week_of(NOW_US), blob_digest(data)), data)
        assert consumer.shared.find(hash_of(f"r{number}")) is not None
    newest = blob_digest(manifests[0])
    assert consumer.shared.fetching.bring(newest)
    assert not consumer.shared.fetching.bring(blob_digest(b"0"))

    assert consumer.shared.fetching.note_gone(newest, [blob_digest(b"0")])

    here = [consumer.blobs.has(blob_digest(each)) for each in manifests]
    assert here == [True, False, True, True]
    found = [consumer.shared.find(hash_of(f"r{number}")) for number in range(4)]
    assert [each is not None for each in found] == [False, True, False, False]


def test_a_damaged_blob_is_not_offered_again_for_a_day_or_until_it_is_sent_anew(
    consumer: Consumer,
) -> None:
    contents = (b"0123456789", b"abcdefghij")
    blobs = with_results(consumer, *contents)
    for name, blob in zip(("r0", "r1"), blobs, strict=True):
        consumer.store.put(blob_key(week_of(NOW_US), blob), b"9876543210")
        assert consumer.shared.find(hash_of(name)) is not None
        assert not consumer.shared.fetching.bring(blob)
    consumer.open_again()
    assert [consumer.shared.find(hash_of(each)) for each in ("r0", "r1")] == [None, None]
    (note,) = consumer.shared.root.glob(f"damaged/{blobs[0][3:]}")
    os.utime(note, (time.time() - 90_000,) * 2)

    consumer.open_again()

    assert consumer.shared.find(hash_of("r0")) is not None, "its day is over"
    assert consumer.shared.find(hash_of("r1")) is None, "but not that of the other"

    with Cache.open(consumer.root / "cache") as cache:
        cache.blobs.put_bytes(contents[1])
        made = list(consumer.shared.log.records(("attempt",)))
        Sender(consumer.shared, cache.log, cache.blobs).send_blobs(made)
    assert consumer.shared.find(hash_of("r1")) is not None
    consumer.open_again()
    assert consumer.shared.find(hash_of("r1")) is not None
    assert list(consumer.shared.root.glob("damaged/*")) == []


def test_a_damaged_blob_does_not_hide_its_good_copy_of_a_later_week(consumer: Consumer) -> None:
    (blob,) = with_results(consumer, BYTES)
    for week, content in (
        (week_of(NOW_US), b"9876543210"),
        (week_of(time.time_ns() // 1000), BYTES),
    ):
        consumer.store.put(blob_key(week, blob), content)
    assert consumer.shared.find(hash_of("r0")) is not None

    assert consumer.shared.fetching.bring(blob)

    assert consumer.blobs.read(blob) == BYTES
    assert list(consumer.shared.root.glob("damaged/*")) == []


def test_what_a_forged_manifest_names_is_noted_nowhere_else(consumer: Consumer) -> None:
    fetching, other = consumer.shared.fetching, consumer.root / "other"

    fetching.note_lost(Digest(f"b3:{other}"), StoreError("forged"))
    assert not other.exists()
    other.touch()
    fetching.note_whole(Digest(f"b3:{other}"))

    assert other.exists()


def test_of_a_blob_that_is_more_than_its_row_says_no_more_is_fetched(
    consumer: Consumer, tmp_path: Path
) -> None:
    port = Port("y", Stored(hash_of("y"), "value", "bytes", len(BYTES), blob=BLOB))
    row = attempt("large", outputs=(port,))
    send_segment(consumer.shared, [json.loads(encode_row(row))])
    consumer.shared.mirror.refresh()
    consumer.store.put(blob_key(week_of(NOW_US), BLOB), os.urandom(20 << 20))
    assert consumer.shared.find(hash_of("large")) is not None

    assert not consumer.shared.fetching.bring(Digest(BLOB))

    assert consumer.shared.fetching.came <= len(BYTES)
    assert "holds other bytes" in consumer.said[0]
    assert list((tmp_path / "cache/tmp").iterdir()) == []
