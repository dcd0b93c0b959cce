"""What a store makes of a network and a server that fail, seen through a real proxy."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from obstore.exceptions import GenericError

from nbcache.errors import (
    AccessDeniedError,
    ObjectMissingError,
    RemoteStoreError,
    StoreGoneError,
    StoreThrottledError,
    StoreUnavailableError,
)
from nbcache.model.digest import blob_digest
from nbcache.store.remote.collect import SharedKeeping
from nbcache.store.remote.driver import PART_BYTES
from nbcache.store.remote.layout import blob_key
from nbcache.store.remote.patience import patiently
from nbcache.store.remote.protocol import Store, create_owned
from tests.servers.clouds import not_deleted
from tests.servers.proxy import (
    CutReply,
    FlipBit,
    Hang,
    LoseReply,
    Proxy,
    Refuse,
    Request,
    always,
    first,
)
from tests.store.conformance.conftest import CLOUD_KINDS
from tests.store.conformance.places import Place
from tests.waiting import PATIENCE_S

SOON_S = 20.0  # far above a deadline, far below what clients do when left alone (37 s, 180 s)
KEY = "key-416"  # as a status that means something; what a client says of an error names the key

REFUSALS = {
    "s3": lambda code, text: f"<Error><Code>{text}</Code><Message>no</Message></Error>".encode(),
    "gcs": lambda code, text: b'{"error": {"code": %d, "message": "no"}}' % code,
    "gcsxml": lambda code, text: b"",
    "azure": lambda code, text: b"",
}


@dataclass(frozen=True)
class Faulty:
    """A cloud behind a proxy."""

    cloud: str
    place: Place
    proxy: Proxy

    def store(self, lookup_s: float = 10.0) -> Store:
        store = self.place.open(lookup_s=lookup_s)
        store.put("warm", b"")  # so that finding credentials is behind us
        return store

    def refuse(self, code: int, text: str) -> Refuse:
        return Refuse(code, REFUSALS[self.cloud](code, text), {"Content-Type": "text/plain"})


@pytest.fixture(scope="module", params=CLOUD_KINDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[Faulty]:
    name, _, backend = request.param.partition("-")
    place: Place = request.getfixturevalue(name)
    proxy = Proxy(place.options["endpoint"])
    options = {**place.options, "endpoint": proxy.url, "backend": backend}
    yield Faulty(name, replace(place, options=options), proxy)
    proxy.close()


@pytest.fixture
def faulty(cloud: Faulty) -> Faulty:
    return replace(cloud, place=cloud.place.fresh())


def every_request(store: Store) -> dict[str, Callable[[], object]]:
    return {
        "put": lambda: store.put(KEY, b"data"),
        "create": lambda: store.put_if_absent("new", b"data"),
        "get": lambda: store.get(KEY),
        "range": lambda: store.get(KEY, 1, 3),
        "list": lambda: list(store.list()),
        "delete": lambda: store.delete([KEY]),
    }


def raised(ask: Callable[[], object]) -> RemoteStoreError:
    with pytest.raises(RemoteStoreError) as caught:
        ask()
    return caught.value


def test_a_refusal_is_told_from_a_miss(faulty: Faulty) -> None:
    store = faulty.store()

    with faulty.proxy.when(always(faulty.refuse(403, "AccessDenied"))):
        errors = {name: raised(ask) for name, ask in every_request(store).items()}
        looked = raised(lambda: store.head(KEY))

    assert {name: type(error) for name, error in errors.items()} == dict.fromkeys(
        errors, AccessDeniedError
    )
    assert isinstance(looked, AccessDeniedError)
    assert "http://" not in looked.reason, "the server's word, and not how a client tells it"
    for name, error in errors.items():
        assert ("to read only" in str(error)) == (name in ("put", "create", "delete", "put_file"))
    assert store.url in str(errors["get"])
    assert repr(KEY) in str(errors["get"])
    assert "credentials" in str(errors["get"])
    if faulty.cloud == "s3":
        with faulty.proxy.when(always(faulty.refuse(400, "ExpiredToken"))):
            expired = raised(lambda: store.get(KEY))
        assert isinstance(expired, AccessDeniedError)
        assert "no (ExpiredToken)" in str(expired)
        with faulty.proxy.when(not_deleted):
            kept = raised(lambda: store.delete([KEY, "other"]))
        assert isinstance(kept, AccessDeniedError)
        assert "User: arn:aws:iam::1:user/ben is not authorized" in kept.reason
        assert "DeleteObjects" not in kept.reason


def test_a_large_object_that_another_has_sent_meanwhile_is_sent_all_the_same(
    faulty: Faulty, tmp_path: Path
) -> None:
    store, other = faulty.store(PATIENCE_S), faulty.store(PATIENCE_S)
    path = tmp_path / "large"
    path.write_bytes(bytes(PART_BYTES + 1))
    met: list[str] = []

    def rule(request: Request) -> None:
        """Let another be quicker, when all parts have come and they are to be put together."""
        is_last = "comp=blocklist" in request.path or "uploadId=" in request.path
        if is_last and request.method in ("PUT", "POST") and not met:
            met.append(request.path)
            other.put_file(KEY, path)

    with faulty.proxy.when(rule):
        patiently(lambda: store.put_file(KEY, path))

    assert store.get(KEY, 0, PART_BYTES + 1) == path.read_bytes()


def test_a_large_object_that_nobody_finished_sending_is_found_and_given_up(
    faulty: Faulty, tmp_path: Path
) -> None:
    store, path = faulty.store(), tmp_path / "large"
    path.write_bytes(bytes(PART_BYTES + 1))

    def rule(request: Request) -> Refuse | None:
        """Let uploads begin; nothing of them comes through, nor that they have ended."""
        return faulty.refuse(400, "BadRequest") if "uploadId=" in request.path else None

    own, of_others = blob_key("2026-W01", blob_digest(b"")), "blobs/backup.tar"
    if faulty.cloud == "s3":
        for key in (own, of_others):
            with faulty.proxy.when(rule), pytest.raises(RemoteStoreError):
                store.put_file(key, path)
        begun = {each.key: each for each in faulty.place.open().unfinished()}
        assert begun.keys() == {own, of_others}
        for each in begun.values():
            assert 0 < each.modified_us < time.time_ns() // 1000  # moto says 2010, whenever it was
        keeping = SharedKeeping(cast(Any, SimpleNamespace(store=store)))
        assert keeping.old_uploads(time.time_ns() // 1000, 0) == [begun[own]]
        with faulty.proxy.when(always(faulty.refuse(405, "MethodNotAllowed"))):
            assert keeping.old_uploads(time.time_ns() // 1000, 0) == []
        with faulty.proxy.when(always(faulty.refuse(403, "AccessDenied"))):
            assert keeping.give_up([begun[own]]) == []
        assert keeping.give_up([begun[own]]) == [begun[own]]
        store.give_up(begun.values())  # one of them again, which is no error

    assert list(store.unfinished()) == []  # where the cloud itself ends them nobody has to look
    with pytest.raises(ObjectMissingError):
        store.head(own)


def test_a_server_that_is_busy_for_ever_is_given_up_soon(faulty: Faulty) -> None:
    store = faulty.store()

    with faulty.proxy.when(always(faulty.refuse(503, "SlowDown"))):
        for name, ask in every_request(store).items():
            begin = time.monotonic()
            error = raised(ask)
            assert isinstance(error, StoreThrottledError), (name, error)
            assert time.monotonic() - begin < SOON_S
        assert len(faulty.proxy.requests) <= 4 * len(every_request(store))


@pytest.mark.parametrize(
    ("cause", "times"),
    [
        (ConnectionResetError(), 2),
        (TimeoutError(), 1),
        (ExceptionGroup("", [TimeoutError()]), 1),
        (GenericError("error sending request\n\nDebug source: HttpError { kind: Timeout }"), 1),
    ],
)
def test_what_somebody_needs_is_asked_for_again_unless_the_server_was_silent(
    cause: Exception, times: int
) -> None:
    asked: list[str] = []

    def request() -> bool:
        asked.append(KEY)
        if len(asked) > 1:
            return True
        raise StoreUnavailableError("s3://b", "write", KEY, "after a minute") from cause

    if times == 1:
        with pytest.raises(StoreUnavailableError):
            patiently(request)
    else:
        assert patiently(request)
    assert len(asked) == times


def test_a_server_that_is_busy_for_a_moment_is_asked_again(faulty: Faulty) -> None:
    store = faulty.store()
    store.put(KEY, b"data")

    with faulty.proxy.when(first(1, faulty.refuse(503, "SlowDown"))):
        assert store.get(KEY) == b"data"
    with faulty.proxy.when(first(1, faulty.refuse(500, "InternalError"))):
        assert [each.key for each in store.list()] == [KEY, "warm"]


def test_no_answer_is_no_endless_wait(faulty: Faulty) -> None:
    store = faulty.store()
    quick = faulty.place.open(lookup_s=0.5)
    store.put(KEY, b"data")

    with faulty.proxy.when(always(Hang())):
        for name in ("get", "create", "list"):
            begin = time.monotonic()
            error = raised(every_request(quick)[name])
            assert type(error) is StoreUnavailableError, (name, error)
            assert time.monotonic() - begin < SOON_S
    assert store.get(KEY) == b"data"  # the client is as good as before


def test_a_server_that_is_away_is_unavailable(faulty: Faulty) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        host, port = taken.getsockname()
        path = faulty.proxy.url.partition("//")[2].partition("/")[2]
        endpoint = f"http://{host}:{port}/{path}".rstrip("/")
        store = replace(faulty.place, options={**faulty.place.options, "endpoint": endpoint}).open()

        for name in ("get", "put", "list"):
            error = raised(every_request(store)[name])
            assert type(error) is StoreUnavailableError, (name, error)
            assert f"{host}:{port}" in str(error)


def test_a_bucket_that_is_gone_is_no_miss(faulty: Faulty) -> None:
    scheme = faulty.place.url.partition("://")[0]
    store = replace(faulty.place, url=f"{scheme}://never-made/prefix").open()

    for name in ("put", "create", "list"):
        error = raised(every_request(store)[name])
        assert isinstance(error, StoreGoneError), (name, error)
    assert isinstance(raised(lambda: store.head(KEY)), StoreGoneError | ObjectMissingError)
    if faulty.cloud != "gcs":
        assert isinstance(raised(lambda: store.get(KEY)), StoreGoneError)
        return
    # Its server here does not say what it is that is missing; Google's does, with names in it.
    words = {
        b"The specified bucket does not exist.": StoreGoneError,
        b"No such object: our-bucket/the specified bucket": ObjectMissingError,
    }
    store = faulty.store()
    for text, kind in words.items():
        with faulty.proxy.when(always(Refuse(404, text))):
            assert type(raised(lambda: store.get(KEY))) is kind


def test_an_upload_that_goes_on_is_not_taken_for_done(faulty: Faulty, tmp_path: Path) -> None:
    if faulty.cloud != "gcs":
        return  # the others put parts together
    (tmp_path / "large").write_bytes(b"x" * ((8 << 20) + 1))
    headers = {"Location": faulty.proxy.url, "Range": "bytes=0-8388608"}

    with faulty.proxy.when(lambda r: Refuse(200 if r.method == "POST" else 308, b"", headers)):
        store = faulty.place.open()
        error = raised(lambda: store.put_file("large", tmp_path / "large"))

    assert isinstance(error, StoreUnavailableError)


def test_a_flipped_bit_is_noticed_by_who_knows_the_digest(faulty: Faulty) -> None:
    store = faulty.store()
    data = b"the bytes of a blob" * 100
    store.put("blob", data)

    with faulty.proxy.when(always(FlipBit())):
        found = store.get("blob")

    assert len(found) == len(data)
    assert blob_digest(found) != blob_digest(data)


def test_a_body_that_is_cut_is_never_taken_for_the_whole(faulty: Faulty, tmp_path: Path) -> None:
    store = faulty.store(lookup_s=3.0)
    data = bytes(range(256)) * 1000
    store.put("blob", data)

    with faulty.proxy.when(lambda request: CutReply() if request.method == "GET" else None):
        for ask in (
            lambda: store.get("blob"),
            lambda: store.get_file("blob", tmp_path / "file", len(data)),
        ):
            assert isinstance(raised(ask), StoreUnavailableError)
    assert store.get_file("blob", tmp_path / "file") == len(data)
    assert (tmp_path / "file").read_bytes() == data


def test_a_create_whose_reply_was_lost_is_known_by_its_nonce(faulty: Faulty) -> None:
    store = faulty.store()
    lost = [first(1, LoseReply()), lambda r: LoseReply() if r.method in ("PUT", "POST") else None]

    for number, rule in enumerate(lost):
        with faulty.proxy.when(rule):
            assert create_owned(store, f"claim/{number}", b"mine") is None
        assert create_owned(store, f"claim/{number}", b"another's") == b"mine"


def test_a_create_that_never_arrived_is_not_taken_for_done(faulty: Faulty) -> None:
    store = faulty.store()
    quick = faulty.place.open(lookup_s=0.5)

    with faulty.proxy.when(lambda r: Hang() if r.method in ("PUT", "POST") else None):
        error = raised(lambda: create_owned(quick, "claim", b"mine"))

    assert isinstance(error, StoreUnavailableError)
    assert create_owned(store, "claim", b"another's") is None


UPLOADER = """
import sys
from pathlib import Path
from tests.store.conformance.places import Place
Place(sys.argv[1], eval(sys.argv[2])).open().put_file("large", Path(sys.argv[3]))
print("done", flush=True)
"""


def test_of_an_upload_that_was_killed_nothing_is_seen(faulty: Faulty, tmp_path: Path) -> None:
    store = faulty.store()
    (tmp_path / "large").write_bytes(b"x" * ((17 << 20) + 1))
    writes = iter(range(1000))

    def rule(request: object) -> Hang | None:
        """Take the first writes (an upload begins, its first part comes), and no other."""
        sent = request.method in ("PUT", "POST")  # type: ignore[attr-defined]
        return Hang() if sent and next(writes) >= 2 else None

    if faulty.cloud == "gcs":  # its server tells clients its own address for the parts
        rule = always(Hang())  # type: ignore[assignment]
    with faulty.proxy.when(rule):
        words = [faulty.place.url, repr(faulty.place.options), str(tmp_path / "large")]
        uploader = subprocess.Popen(
            [sys.executable, "-c", UPLOADER, *words], stdout=subprocess.PIPE
        )
        try:
            assert faulty.proxy.hanging.wait(PATIENCE_S)
        finally:
            uploader.kill()
            said, _ = uploader.communicate()

    assert said == b""
    assert [each.key for each in store.list()] == ["warm"]
    with pytest.raises(ObjectMissingError):
        store.get("large", 0, 10)
    store.put("large", b"whole")
    assert store.get("large") == b"whole"
