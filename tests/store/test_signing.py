"""Whose word a row is: own caches, signatures, and every way to forge one."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.errors import StoreError
from nbcache.model.digest import blob_digest
from nbcache.model.row import AttemptRow, Port, Record
from nbcache.model.signature import Standing, rest_digest, sealed_form
from nbcache.model.value import Stored
from nbcache.store.cache import Cache, take_over
from nbcache.store.columns import record_of, table_of
from nbcache.store.journal import JournalWriter, encode_record
from nbcache.store.remote.collect import SharedKeeping
from nbcache.store.remote.memory import MemoryStore
from nbcache.store.remote.sending import send_segment
from nbcache.store.remote.shared import Shared
from nbcache.store.segment import read_records
from nbcache.store.signing import Signer, is_vouched, make_key, read_key, standing_of
from nbcache.store.trust_file import (
    Place,
    config_folder,
    own_cache,
    read_trust,
    trust_key,
)
from nbcache.store.verified import Verified, digest_of, verified
from tests.exploring import examples
from tests.store.rows import attempt, hash_of, new_id

As = Callable[[str], None]

PICKLE = Stored(hash_of("y"), "value", "pickle", 3, inline=b"\x80\x04N")


@pytest.fixture(autouse=True)
def become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> As:
    """Return a function that makes this process another user's, as far as trust goes."""

    def as_user(name: str) -> None:
        monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / f"settings of {name}"))

    as_user("alice")
    return as_user


def row_of_alice(**changes: Any) -> AttemptRow:
    outputs = (Port("y", PICKLE), Port("z", Stored(hash_of("z"), "value", "json", 1, inline=b"1")))
    return attempt("a", outputs=outputs, **changes)


def signed_record(**changes: Any) -> Record:
    """A row as alice's process signs it."""
    make_key("alice")
    record = row_of_alice(**changes).record()
    Signer(makes_key=False).sign(record)
    return json.loads(encode_record(record))  # type: ignore[no-any-return]


def judge(record: Record) -> Standing:
    return standing_of(record, whole=True)


def bobs_copy(tmp_path: Path, become: As, *rows: AttemptRow) -> Path:
    """Return the copy that bob has of a cache that alice made, with her rows signed."""
    make_key("alice")
    with Cache.open(tmp_path / "alices") as cache:
        cache.log.append(list(rows) or [row_of_alice()])
    shutil.copytree(tmp_path / "alices", tmp_path / "bobs")
    key = read_key()
    assert key is not None
    become("bob")
    trust_key(key.public, "alice")
    return tmp_path / "bobs"


# ------------------------------------------------------------------ which caches are one's own


def test_a_cache_is_of_its_maker_and_a_copy_of_it_is_nobodys(tmp_path: Path, become: As) -> None:
    Cache.open(tmp_path / "c").close()
    code = (
        "import sys; from nbcache.store.cache import Cache; print(Cache.open(sys.argv[1]).is_own)"
    )

    def is_own(path: Path) -> bool:
        told = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True
        )
        return told.stdout == "True\n"

    assert is_own(tmp_path / "c")
    shutil.copytree(tmp_path / "c", tmp_path / "copy")
    assert not is_own(tmp_path / "copy")
    os.rename(tmp_path / "c", tmp_path / "moved")
    assert is_own(tmp_path / "moved")
    become("bob")
    assert not is_own(tmp_path / "moved")
    take_over(tmp_path / "moved")
    assert is_own(tmp_path / "moved")


def test_where_settings_cannot_be_written_a_cache_is_ones_own_while_the_process_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / "file" / "below"))

    assert Cache.open(tmp_path / "c").is_own
    assert Cache.open(tmp_path / "c").is_own


def test_settings_are_private_and_do_not_count_where_others_may_write(tmp_path: Path) -> None:
    own_cache("ID", Place("/somewhere", 1))
    make_key("alice")
    path = config_folder() / "trust.json"
    assert [each.stat().st_mode & 0o777 for each in (path, config_folder() / "key.json")] == [
        0o600
    ] * 2
    assert read_trust().owns("ID", "/somewhere", 2)
    path.chmod(0o666)

    assert not read_trust().owns("ID", "/somewhere", 2)
    with pytest.raises(StoreError, match="chmod 600"):
        own_cache("OTHER", Place("/elsewhere", 1))


@pytest.mark.parametrize("variable", ["NBCACHE_CONFIG_DIR", "XDG_CONFIG_HOME"])
def test_settings_that_came_with_a_notebook_are_nobodys(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NBCACHE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    home, clone, key = tmp_path / "home", tmp_path / "clone", "ed25519:" + "0" * 64
    clone.mkdir()
    monkeypatch.setenv("HOME", str(clone))
    trust_key(key, "mallory")
    shutil.copytree(clone / ".config", clone / "settings")
    shutil.copytree(clone / ".config/nbcache", clone / "settings", dirs_exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(clone)

    monkeypatch.setenv(variable, "settings")

    assert not read_trust().keys
    assert (home / "settings") in (config_folder(), config_folder().parent)


def test_of_very_many_caches_those_that_were_gone_first_are_forgotten(tmp_path: Path) -> None:
    path = config_folder() / "trust.json"
    own_cache("MINE", Place(str(tmp_path), 1))
    held = json.loads(path.read_bytes())
    held["caches"] |= {
        f"GONE{number}": [{"path": f"/not/there/{number}", "inode": 2}] for number in range(1000)
    }
    path.write_text(json.dumps(held))

    own_cache("NEW", Place(str(tmp_path / "new"), 3))

    caches = read_trust().caches
    assert "MINE" in caches  # the oldest, and it is there
    assert "NEW" in caches
    assert "GONE999" in caches  # a disk may come back
    assert len(caches) == 501


def test_a_damaged_trust_file_trusts_nothing_and_is_not_overwritten(tmp_path: Path) -> None:
    own_cache("ID", Place("/somewhere", 1))
    path = config_folder() / "trust.json"
    path.write_bytes(path.read_bytes()[:-9])

    assert not read_trust().owns("ID", "/somewhere", 1)
    with pytest.raises(StoreError, match="damaged"):
        trust_key("ed25519:" + "0" * 64, "mallory")


def test_many_processes_note_their_caches_and_agree_on_one_key(tmp_path: Path) -> None:
    code = (
        "import sys; from nbcache.store.cache import Cache\n"
        "from nbcache.store.signing import make_key\n"
        "print(make_key().public, Cache.open(sys.argv[1]).id)"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / str(n))], stdout=subprocess.PIPE, text=True
        )
        for n in range(5)
    ]

    told = [process.communicate()[0].split() for process in running]

    assert len({key for key, _ in told}) == 1
    trust = read_trust()
    assert {cache for _, cache in told} <= trust.caches.keys()
    assert told[0][0] in trust.keys


# ------------------------------------------------------------------ what is signed


def test_a_signed_row_counts_for_who_trusts_its_key_and_for_nobody_else(become: As) -> None:
    record = signed_record()
    assert judge(record) is Standing.SIGNED
    become("bob")
    assert judge(record) is Standing.UNKNOWN
    trust_key(record["signer"], "alice")
    assert judge(record) is Standing.SIGNED
    trust_key(record["signer"], "alice", revoked=True)
    assert judge(record) is Standing.REVOKED
    assert judge({key: record[key] for key in record if key not in ("signature", "signer")}) is (
        Standing.UNSIGNED
    )


def test_a_change_of_any_column_is_a_forgery() -> None:
    record = signed_record(shown=PICKLE, user="alice", workdir="/w", error="none")
    assert judge(record) is Standing.SIGNED  # and remembered
    untouched = {"signature", "signer", "sealed"}
    changed: dict[str, Any] = {}
    for name, value in record.items():
        if name in untouched:
            continue
        other = (
            value + "x"
            if isinstance(value, str)
            else [*value, 1]
            if isinstance(value, list)
            else ({**value, "size": 99} if isinstance(value, dict) else value + 1)
        )
        changed[name] = judge({**record, name: other})
        left_out = {key: each for key, each in record.items() if key != name}
        changed[f"without {name}"] = judge(left_out)
    changed["added"] = judge({**record, "time": 5.0})
    changed["added of a later version"] = judge({**record, "flavour": "x"})

    assert set(changed.values()) == {Standing.FORGED}, changed


def test_a_signature_that_fits_is_remembered_where_only_the_user_writes() -> None:
    record = signed_record()
    forged = {**record, "process": "other"}
    digest, of_forged = (
        digest_of(sealed_form(each), each["signer"], base64.b64decode(each["signature"]))
        for each in (record, forged)
    )

    assert judge(record) is Standing.SIGNED
    assert judge(forged) is Standing.FORGED
    verified().keep()

    memory = config_folder() / "signatures"
    assert memory.read_bytes() == digest
    assert memory.stat().st_mode & 0o777 == 0o600
    memory.write_bytes(digest + of_forged)  # as nobody but the user can
    assert of_forged in Verified(memory)
    memory.chmod(0o666)
    assert digest not in Verified(memory)
    memory.chmod(0o600)
    again = Verified(memory)
    again.add(bytes(32))
    again.keep()
    assert memory.read_bytes() == digest + of_forged + bytes(32)
    memory.write_bytes(digest + of_forged[:9])  # a write was cut off
    again = Verified(memory)
    again.add(of_forged)
    again.keep()
    assert memory.read_bytes() == digest + of_forged
    memory.unlink()
    os.mkfifo(memory)
    assert digest not in Verified(memory)


def test_of_very_many_signatures_the_last_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbcache.store.verified._MOST", 10)
    memory = Verified(tmp_path / "signatures")
    digests = [bytes([number]) * 32 for number in range(24)]

    for each in digests:
        memory.add(each)

    held = [each for each in digests if each in memory]
    assert 5 <= len(held) <= 10
    assert held == digests[-len(held) :]
    memory.keep()
    assert (tmp_path / "signatures").read_bytes() == b"".join(held)


@pytest.mark.parametrize("signer", ["ed25519:größer", "ed25519:\ud800"])
def test_a_trusted_name_that_is_no_key_has_signed_nothing(signer: str) -> None:
    trust_key(signer, "a slip of an editor")

    assert not is_vouched(b"data", signer, bytes(64))


def test_a_row_with_read_only_mappings_is_signed_as_one_with_dicts() -> None:
    record = signed_record()
    outputs = [MappingProxyType({**each, "note": None}) for each in record["outputs"]]

    assert sealed_form({**record, "outputs": outputs}) == sealed_form(record)
    outputs = [MappingProxyType(each) for each in record["outputs"]]
    assert sealed_form({**record, "outputs": outputs}) == sealed_form(record)


def test_a_signed_row_that_is_put_elsewhere_or_back_says_no_more_than_it_did(
    tmp_path: Path, become: As
) -> None:
    first, again = signed_record(), signed_record(generation=2, id=new_id())
    become("bob")
    blobs = Cache.open(tmp_path / "bobs").blobs
    folders = (tmp_path / f"mirror {number}" for number in itertools.count())

    def shared_by(store: MemoryStore) -> Shared:
        shared = Shared.open(store, next(folders), blobs)
        shared.mirror.refresh()
        return shared

    def used(store: MemoryStore) -> str | None:
        with closing(shared_by(store)) as shared:
            entry = shared.find(hash_of("a"))
        return None if entry is None else entry.row_id

    theirs, other = MemoryStore(), MemoryStore()
    here, there = shared_by(theirs), shared_by(other)
    send_segment(here, [first])
    assert used(theirs) is None
    trust_key(first["signer"], "alice")
    assert used(theirs) == first["id"]

    send_segment(there, [first])
    assert used(other) == first["id"], "it is her word about this hash wherever it lies"
    SharedKeeping(here).evict({first["id"]: "cleaned"}, first["at"])
    send_segment(here, [first, attempt("more").record()])
    assert used(theirs) is None, "a tombstone holds for ever"
    send_segment(there, [again])
    send_segment(there, [first, attempt("more").record()])
    assert used(other) == again["id"], "what was made anew is the later word"
    trust_key(first["signer"], "alice", revoked=True)
    assert used(other) is None


def swapped(record: Record, **port: Any) -> Record:
    return {**record, "outputs": [{**record["outputs"][0], **port}, record["outputs"][1]]}


def other_key(record: Record) -> Record:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    made = {**record, "outputs": [{**record["outputs"][0], "inline": "gASVAA=="}]}
    signature = Ed25519PrivateKey.generate().sign(sealed_form(made))
    return {**made, "signature": base64.b64encode(signature).decode()}


FORGERIES: dict[str, Callable[[Record], Record]] = {
    "another pickle in the row": lambda r: swapped(r, inline="gASVAA=="),
    "another blob": lambda r: swapped(r, inline=None, blob=blob_digest(b"evil")),
    "another content digest": lambda r: swapped(r, digest=hash_of("evil")),
    "another codec": lambda r: {
        **r, "outputs": [r["outputs"][0], {**r["outputs"][1], "codec": "pickle"}]
    },
    "for another hash": lambda r: {**r, "hash": hash_of("b")},
    "for another hash, with its seal": lambda r: {
        **r, "hash": hash_of("b"), "sealed": rest_digest({**r, "hash": hash_of("b")})
    },
    "watched reads left out": lambda r: {**r, "watched": []},
    "a higher generation": lambda r: {**r, "generation": 99},
    "cut": lambda r: {**r, "signature": r["signature"][:40]},
    "no base64": lambda r: {**r, "signature": "%" * 88},
    "a number": lambda r: {**r, "signature": 5},
    "signer without signature": lambda r: {k: v for k, v in r.items() if k != "signature"},
    "another signer": lambda r: {**r, "signer": "ed25519:" + "1" * 64},
    "an odd signer": lambda r: {**r, "signer": ["x"]},
    "signed by another key in the name of this one": other_key,
}  # fmt: skip


@pytest.mark.parametrize("how", FORGERIES)
def test_a_forged_row_does_not_count_and_its_fault_is_named(
    how: str, tmp_path: Path, become: As
) -> None:
    forged = FORGERIES[how](signed_record(watched=()))
    folder = bobs_copy(tmp_path, become, attempt("other"))
    writer = JournalWriter(folder)
    writer.append_lines(encode_record(forged), 1)
    writer.close()
    hash = forged["hash"]

    with Cache.open(folder) as cache:
        for _ in ("in the journal", "in a segment", "merged"):
            assert not cache.is_own
            assert cache.log.find(hash) is None
            assert cache.log.find_all(hash) == []
            assert "its signature does not fit" in cache.log.answer(hash)[1]
            row = cache.log.row(forged["id"])
            assert isinstance(row, AttemptRow)
            assert not any(port.stored.vouched for port in row.outputs)
            cache.log.fold()
            cache.log.append([attempt("more")])
            cache.log.rotate()
            cache.log.fold()
            cache.log.compact()


def test_of_several_rows_of_a_hash_the_best_that_is_vouched_for_counts(
    tmp_path: Path, become: As
) -> None:
    mine = row_of_alice()
    folder = bobs_copy(tmp_path, become, mine)
    evil = attempt("a", id=new_id(), generation=50, outputs=(Port("y", PICKLE),))
    safe = attempt("b", outputs=(Port("y", Stored(hash_of("q"), "value", "json", 1, inline=b"2")),))
    writer = JournalWriter(folder)
    writer.append([evil, safe])
    writer.close()

    with Cache.open(folder) as cache:
        found = cache.log.find(hash_of("a"))
        assert found is not None
        assert found.row_id == mine.id
        assert all(port.stored.vouched for port in found.outputs)
        assert cache.log.next_generation(hash_of("a")) == 51  # so that what is made again wins
        unsigned = cache.log.find(hash_of("b"))
        assert unsigned is not None
        assert not unsigned.outputs[0].stored.vouched


def test_a_signature_survives_folding_merging_and_columns_of_a_later_version(
    tmp_path: Path, become: As
) -> None:
    """What a version does not know it keeps, so the bytes that were signed are there again."""
    make_key("alice")
    record = row_of_alice(realtime=0.1, watched=()).record()
    record.update(
        flavour="é\udcff", count=1, share=1.0, many=[{"a": 1, "b": [0.5, "x"]}], tag=5, on=True
    )
    record["outputs"][0]["encoding"] = "later"
    Signer(makes_key=False).sign(record)
    with Cache.open(tmp_path / "alices") as cache:
        for number in range(3):
            writer = JournalWriter(cache.root)
            lines = encode_record(record) if number == 1 else b""
            writer.append_lines(lines + encode_record(attempt(f"x{number}").record()), 1)
            writer.close()
            cache.log.fold()
        assert cache.log.compact() == 3
        (name,) = cache.log.segments()
        rows = list(read_records(cache.root / "log" / f"{name}.rows.parquet"))

    found = next(each for each in rows if each["id"] == record["id"])
    assert judge(found) is Standing.SIGNED
    with Cache.open(tmp_path / "alices") as cache:
        become("bob")
        trust_key(record["signer"], "alice")
        shutil.copytree(cache.root, tmp_path / "bobs")
    with Cache.open(tmp_path / "bobs") as copy:
        entry = copy.log.find(hash_of("a"))
        assert entry is not None
        assert entry.outputs[0].stored.vouched


@examples(60)
@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name not in ("extra", "signature", "place")),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_the_sealed_form_is_that_of_the_row_whatever_way_it_went(odd: Record) -> None:
    record = {**attempt("a").record(), **odd, "kind": "attempt", "id": "X", "hash": hash_of("a")}
    line = json.loads(encode_record(record))
    back = record_of(table_of([line]).to_pylist()[0])

    for each in (line, back):
        assert sealed_form(each) == sealed_form(record)
        assert rest_digest(each) == rest_digest(record)


def test_only_who_made_a_row_signs_it(tmp_path: Path) -> None:
    """What was written before there was a key stays unsigned, through folding and merging."""
    with Cache.open(tmp_path / "c") as cache:
        for number in range(2):
            cache.log.append([attempt(f"{number}")])
            cache.log.rotate()
            cache.log.fold()
        make_key("alice")
        cache.log.append([attempt("2")])
        cache.log.rotate()
        cache.log.fold()
        cache.log.compact()

        records = {each["tag"]: each for each in cache.log.records()}

    assert [("signature" in records[f"tag {n}"]) for n in range(3)] == [False, False, True]


def test_what_one_makes_in_a_foreign_cache_counts_at_the_next_visit(
    tmp_path: Path, become: As
) -> None:
    Cache.open(tmp_path / "alices").close()
    become("bob")
    assert read_key() is None
    with Cache.open(tmp_path / "alices") as cache:
        assert not Cache.open(shutil.copytree(cache.root, tmp_path / "copy")).is_own
    with Cache.open(tmp_path / "copy") as cache:
        cache.log.append([row_of_alice()])
        found = cache.log.find(hash_of("a"))

    assert read_key() is not None
    assert found is not None
    assert found.outputs[0].stored.vouched


@pytest.mark.parametrize("name", ["../../.bashrc", "/etc/passwd", "..", "a/b", ""])
def test_a_row_cannot_say_that_a_file_appears_elsewhere(name: str) -> None:
    stored = Stored(hash_of("y"), "file", "file", 1, blob=blob_digest(b"x"), name="fine.txt")
    record = Port("y", stored).record()

    assert Port.from_record(record).stored.name == "fine.txt"
    assert Port.from_record({**record, "file": name}).stored.name is None


def test_a_row_that_was_copied_into_an_own_cache_stays_anothers_word(
    tmp_path: Path, become: As
) -> None:
    record = signed_record()
    unsigned = {key: record[key] for key in record if key not in ("signature", "signer", "sealed")}
    become("bob")
    with Cache.open(tmp_path / "bobs") as cache:
        writer = JournalWriter(cache.root)
        for each in (record, {**unsigned, "id": new_id(), "generation": 9}):
            writer.append_lines(encode_record({**each, "origin": "ALICES"}), 1)
        writer.close()
        for _ in ("journal", "segment"):
            assert cache.is_own
            assert cache.log.find(hash_of("a")) is None
            assert cache.log.answer(hash_of("a"))[1]
            cache.log.fold()
        trust_key(record["signer"], "alice")
        found = cache.log.find(hash_of("a"))
    assert found is not None
    assert found.row_id == record["id"]
