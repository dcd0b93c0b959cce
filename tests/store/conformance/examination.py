"""The examination that every store has to pass, promise by promise.

Each function takes an empty place and fails with an AssertionError where the store there does not
keep what nbcache.store.remote.protocol promises.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbcache.errors import ObjectMissingError
from nbcache.store.remote.protocol import create_owned
from tests.store.conformance.places import AnyPlace

Exam = Callable[[AnyPlace], None]

ODD_KEYS = (
    "plain",
    "two words/and more.txt",
    "percent%20sign/100%",
    "plus+sign/a+b",
    "ünïcödé/日本語/🦦",
    "e\u0301 and \u00e9",  # two ways to write one letter stay two keys
    "quote'double\"/[brackets]{braces}",
    "at@colon:semi;comma,=&?#!$~^|<>*()",
    ".hidden/..twice",
    "long/" + "/".join(["x" * 250] * 3),
    "dash-comes/before",
    "dash/after-slash",
)


def bytes_come_back_as_they_were_put(place: AnyPlace) -> None:
    store = place.open()
    every = bytes(range(256)) * 300

    store.put("a/every byte", every)
    store.put("a/empty", b"")

    assert place.open().get("a/every byte") == every
    assert place.open().get("a/empty") == b""


def a_later_put_replaces_an_earlier_one(place: AnyPlace) -> None:
    store = place.open()
    store.put("key", b"first, and longer")
    before = store.head("key")

    store.put("key", b"second")

    after = store.head("key")
    assert store.get("key") == b"second"
    assert after.size == 6
    assert after.version != before.version


def a_range_is_cut_where_the_object_ends(place: AnyPlace) -> None:
    store = place.open()
    store.put("key", b"0123456789")
    store.put("empty", b"")

    wanted = {
        (0, None): b"0123456789",
        (3, None): b"3456789",
        (0, 4): b"0123",
        (3, 7): b"3456",
        (9, 10): b"9",
        (8, 100): b"89",
        (0, 100): b"0123456789",
        (10, 20): b"",
        (50, 60): b"",
        (4, 4): b"",
    }
    got = {each: store.get("key", *each) for each in wanted}

    assert got == wanted
    assert store.get("empty", 0, 10) == b""


def a_missing_object_is_told_from_all_other_faults(place: AnyPlace, tmp: Path) -> None:
    store = place.open()
    store.put("folder/there", b"")

    for ask in (
        lambda: store.get("nothing"),
        lambda: store.get("nothing", 0, 10),
        lambda: store.get("folder"),
        lambda: store.head("nothing"),
        lambda: store.head("folder/nothing"),
        lambda: store.get_file("nothing", tmp / "file"),
        lambda: store.get_file("nothing", tmp / "file", 10),
    ):
        with pytest.raises(ObjectMissingError):
            ask()
    assert issubclass(ObjectMissingError, KeyError)


def head_tells_size_and_the_servers_time(place: AnyPlace) -> None:
    store = place.open()
    before = store.server_time()
    store.put("key", b"12345")
    after = store.server_time()

    entry = store.head("key")

    second = 1_000_000  # many servers tell whole seconds
    assert (entry.key, entry.size) == ("key", 5)
    assert before - second <= entry.modified_us <= after + second
    assert abs(after - time.time_ns() // 1000) < 60 * second  # the server is on this machine
    assert [each.key for each in store.list()] == ["key"], "the clock leaves something behind"


def only_a_free_key_is_created(place: AnyPlace) -> None:
    store = place.open()

    assert store.put_if_absent("a/key", b"first") is True
    assert store.put_if_absent("a/key", b"second") is False
    assert store.get("a/key") == b"first"
    store.delete(["a/key"])
    assert store.put_if_absent("a/key", b"") is True
    assert store.put_if_absent("a/key", b"third") is False


def of_many_threads_one_creates_a_key(place: AnyPlace) -> None:
    store = place.open()
    store.put("warm", b"")
    for number in range(4):
        start = threading.Barrier(16)

        def race(name: int, key: str = f"race/{number}", start: threading.Barrier = start) -> bool:
            start.wait()
            return store.put_if_absent(key, b"%d" % name)

        with ThreadPoolExecutor(16) as threads:
            won = list(threads.map(race, range(16)))

        assert won.count(True) == 1, f"{won.count(True)} of 16 were told that they were first"
        assert store.get(f"race/{number}") == b"%d" % won.index(True)


def who_created_a_key_is_told_by_reading_it(place: AnyPlace) -> None:
    store = place.open()

    assert create_owned(store, "claim", b"nonce of one") is None
    assert create_owned(store, "claim", b"nonce of two") == b"nonce of one"
    assert create_owned(store, "claim", b"nonce of one") is None  # its own, sent once more


def odd_keys_are_keys_like_any_other(place: AnyPlace) -> None:
    store = place.open()
    for key in ODD_KEYS:
        assert store.put_if_absent(key, key.encode("utf-8"))

    for key in ODD_KEYS:
        assert not store.put_if_absent(key, b"")
        assert store.get(key) == key.encode("utf-8"), key
        assert store.head(key).key == key
    in_order = sorted(ODD_KEYS, key=lambda key: key.encode("utf-8"))
    assert [each.key for each in store.list()] == in_order
    store.delete(ODD_KEYS)
    assert list(store.list()) == []


def what_is_no_key_is_refused(place: AnyPlace, tmp: Path) -> None:
    store = place.open()
    bad = ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a.", "a\\b", "a\nb", "a\x00"]
    (tmp / "file").touch()
    bad += ["tmp/x", "x" * 256, "a/" * 500 + "a", "\ud800"]

    for key in bad:
        for ask in (
            lambda key=key: store.put(key, b""),
            lambda key=key: store.put_if_absent(key, b""),
            lambda key=key: store.get(key),
            lambda key=key: store.head(key),
            lambda key=key: store.put_file(key, tmp / "file"),
            lambda key=key: store.get_file(key, tmp / "file"),
            lambda key=key: store.delete([key]),
        ):
            with pytest.raises(ValueError, match="is no key"):
                ask()
    with pytest.raises(ValueError, match="is no prefix"):
        list(store.list("a"))
    assert list(store.list()) == []


def a_listing_is_whole_and_in_order(place: AnyPlace) -> None:
    store = place.open()
    keys = [f"log/{number:04}" for number in range(40)] + ["log-old/1", "log/sub/1", "other"]
    random.Random(1).shuffle(keys)
    for key in keys:
        store.put(key, key.encode())

    under = sorted(key for key in keys if key.startswith("log/"))
    assert [each.key for each in store.list("log/")] == under
    assert [each.key for each in store.list("log/", "log/0037")] == under[38:]
    assert [each.key for each in store.list("log/", "log/0037x")] == under[38:]
    assert [each.key for each in store.list()] == sorted(keys)
    assert [each.key for each in store.list("", "log/sub/1")] == ["other"]
    assert list(store.list("nothing/")) == []
    assert list(store.list("other/")) == []
    assert all(each.size == len(each.key) and each.version for each in store.list())
    assert store.head("other") == next(iter(store.list("", "log/sub/1")))


def deleting_takes_what_is_there(place: AnyPlace) -> None:
    store = place.open()
    for key in ("a/1", "a/2", "b"):
        store.put(key, b"x")

    store.delete(["a/1", "missing", "a/missing", "b"])
    store.delete(["a/1"])
    store.delete([])

    assert [each.key for each in store.list()] == ["a/2"]
    store.delete(["a/2"])
    store.put("a/2", b"again")
    assert store.get("a/2") == b"again"


def large_files_go_and_come_whole(place: AnyPlace, tmp: Path) -> None:
    store = place.open()
    chance = random.Random(2)
    for size in (0, 1, (9 << 20) + 1):
        (tmp / "file").write_bytes(chance.randbytes(size))
        wanted = _digest(tmp / "file")

        store.put_file("large", tmp / "file")

        assert store.head("large").size == size
        assert store.get_file("large", tmp / "back") == size
        assert _digest(tmp / "back") == wanted
        assert store.get_file("large", tmp / "back", size) == size
        assert _digest(tmp / "back") == wanted
    assert (
        store.get("large", (8 << 20) - 3, (8 << 20) + 3)
        == ((tmp / "file").read_bytes()[(8 << 20) - 3 : (8 << 20) + 3])
    )


def threads_share_a_store(place: AnyPlace) -> None:
    store = place.open()

    def work(number: int) -> bytes:
        store.put(f"shared/{number}", b"%d" % number)
        return store.get(f"shared/{number}")

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(40))) == [b"%d" % number for number in range(40)]


def requests_are_counted(place: AnyPlace) -> None:
    asked: list[tuple[str, str]] = []
    store = place.open(on_request=lambda doing, key: asked.append((doing, key)))
    store.put("a/k", b"12345")
    store.get("a/k")
    store.get("a/k", 1, 3)
    store.head("a/k")
    assert [each.key for each in store.list("a/")] == ["a/k"]

    assert asked == [
        ("put", "a/k"),
        ("get", "a/k"),
        ("get", "a/k"),
        ("head", "a/k"),
        ("list", "a/"),
    ]


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes()).hexdigest()


EXAMS: dict[str, Exam] = {}


def _with_folder(exam: Callable[[AnyPlace, Path], None]) -> Exam:
    def run(place: AnyPlace) -> None:
        with tempfile.TemporaryDirectory() as folder:
            exam(place, Path(folder))

    return run


for _each in (
    bytes_come_back_as_they_were_put,
    a_later_put_replaces_an_earlier_one,
    a_range_is_cut_where_the_object_ends,
    head_tells_size_and_the_servers_time,
    only_a_free_key_is_created,
    of_many_threads_one_creates_a_key,
    who_created_a_key_is_told_by_reading_it,
    odd_keys_are_keys_like_any_other,
    a_listing_is_whole_and_in_order,
    deleting_takes_what_is_there,
    threads_share_a_store,
    requests_are_counted,
):
    EXAMS[_each.__name__] = _each
for _other in (
    a_missing_object_is_told_from_all_other_faults,
    what_is_no_key_is_refused,
    large_files_go_and_come_whole,
):
    EXAMS[_other.__name__] = _with_folder(_other)
