"""Every store passes the examination, and a bad one is found out."""

from __future__ import annotations

import operator
from collections.abc import Iterator

import pytest

from nbcache.errors import RemoteStoreError
from nbcache.store.remote.memory import MemoryStore
from tests.store.conformance.bad_stores import BAD_STORES
from tests.store.conformance.conftest import CLOUDS, KINDS_OF_MANY_PROCESSES
from tests.store.conformance.examination import EXAMS, ODD_KEYS
from tests.store.conformance.places import AnyPlace, MemoryPlace, Place
from tests.store.conformance.racers import PROCESSES, THREADS, Racers, racers

ROUNDS = 3


@pytest.mark.parametrize("exam", sorted(EXAMS))
def test_a_store_keeps_the_promise_that(exam: str, place: AnyPlace) -> None:
    EXAMS[exam](place)


@pytest.fixture(scope="module")
def field() -> Iterator[Racers]:
    with racers() as started:
        yield started


@pytest.mark.parametrize("server", KINDS_OF_MANY_PROCESSES, indirect=True)
def test_of_64_racers_in_four_processes_one_creates_a_key(place: Place, field: Racers) -> None:
    assert PROCESSES * THREADS == 64
    keys = [f"claims/{number}" for number in range(ROUNDS)]

    winners = field.race(place, keys)

    store = place.open()
    assert {key: len(winners[key]) for key in keys} == dict.fromkeys(keys, 1)
    assert {key: store.get(key) for key in keys} == {key: winners[key][0] for key in keys}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_two_clients_of_one_cloud_see_one_store(cloud: str, request: pytest.FixtureRequest) -> None:
    place: Place = request.getfixturevalue(cloud).fresh()
    one, other = place.open(backend="fsspec"), place.open(backend="obstore")

    for key in ODD_KEYS:
        one.put(key, b"one")
        assert other.get(key) == b"one"
        assert not other.put_if_absent(key, b"other")
        other.put(key, b"other")
    assert {key: one.get(key) for key in ODD_KEYS} == dict.fromkeys(ODD_KEYS, b"other")
    assert list(one.list()) == list(other.list())


@pytest.mark.parametrize("bad", sorted(BAD_STORES, key=operator.attrgetter("__name__")))
def test_a_store_that_breaks_a_promise_is_found_out(bad: type[MemoryStore]) -> None:
    exam = EXAMS[BAD_STORES[bad]]

    exam(MemoryPlace())  # passed by a store that keeps it
    with pytest.raises((AssertionError, RemoteStoreError, pytest.fail.Exception)):
        exam(MemoryPlace(bad))
