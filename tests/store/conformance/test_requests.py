"""What a store asks of a server is what was meant: counted where it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nbcache.errors import ObjectMissingError
from nbcache.store.remote.protocol import Store, create_owned
from tests.servers.proxy import Proxy
from tests.store.conformance.conftest import CLOUD_KINDS
from tests.store.conformance.places import Place


@pytest.fixture(scope="module", params=CLOUD_KINDS)
def counted(request: pytest.FixtureRequest) -> Iterator[tuple[Place, Proxy]]:
    name, _, backend = request.param.partition("-")
    place: Place = request.getfixturevalue(name).fresh()
    proxy = Proxy(place.options["endpoint"])
    yield replace(place, options={"endpoint": proxy.url, "backend": backend}), proxy
    proxy.close()


def missing(ask: Callable[[], object]) -> None:
    with pytest.raises(ObjectMissingError):
        ask()


def test_nothing_is_asked_that_nobody_meant(counted: tuple[Place, Proxy], tmp_path: Path) -> None:
    place, proxy = counted
    store = place.open()
    store.put("folder/there", b"0123456789")
    store.put_if_absent("folder/free", b"")
    (tmp_path / "large").write_bytes(b"x" * ((9 << 20) + 1))
    store.put_file("large", tmp_path / "large")
    asks: dict[str, tuple[int, Callable[[Store], object]]] = {
        "put": (1, lambda store: store.put("new", b"x")),
        "create": (1, lambda store: store.put_if_absent("created", b"x")),
        "create what is there": (1, lambda store: store.put_if_absent("created", b"y")),
        "create and learn whose it is": (2, lambda store: create_owned(store, "created", b"z")),
        "get": (1, lambda store: store.get("folder/there")),
        "get a range": (1, lambda store: store.get("folder/there", 2, 4)),
        "get beyond the end": (1, lambda store: store.get("folder/there", 100, 200)),
        "get of a miss": (1, lambda store: missing(lambda: store.get("nothing"))),
        "head": (1, lambda store: store.head("folder/there")),
        "head of a miss": (1, lambda store: missing(lambda: store.head("nothing"))),
        "list": (1, lambda store: list(store.list("folder/"))),
        "list of nothing": (1, lambda store: list(store.list("none/"))),
        "get a small file": (1, lambda store: store.get_file("folder/there", tmp_path / "a")),
        "get a large file": (
            2,
            lambda store: store.get_file("large", tmp_path / "b", (9 << 20) + 1),
        ),
        "delete": (1, lambda store: store.delete(["folder/free"])),
        "delete of a miss": (1, lambda store: store.delete(["nothing"])),
    }

    arrived = {}
    for what, (_, ask) in asks.items():
        with proxy.when(lambda request: None):
            ask(store)
            arrived[what] = len(proxy.requests)

    assert arrived == {what: count for what, (count, _) in asks.items()}
