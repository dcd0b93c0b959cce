"""Measure what a colleague waits for: a run of cached tasks from an empty machine, over S3, and to
find results that another has signed.

python -m tests.bench.bench_team [--quick]

The server is on this machine, behind a proxy that lets each request wait for 50 ms; server and
proxy take their share of its processors.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcache.model.row import Port
from nbcache.model.value import Stored
from nbcache.store.cache import Cache
from nbcache.store.journal import encode_row
from nbcache.store.remote.memory import MemoryStore
from nbcache.store.remote.sending import send_segment
from nbcache.store.remote.shared import Shared
from nbcache.store.signing import Signer, make_key
from nbcache.store.trust_file import trust_key
from tests.bench.figure import Figure, main
from tests.engine.notebooks import Notebook
from tests.servers import s3 as s3_servers
from tests.servers.proxy import Proxy, Request
from tests.store.rows import attempt, hash_of

LATENCY_S = 0.05
TASKS = 10_000
PATIENCE_S = 1_200.0


def late(request: Request) -> None:
    """Let a request take as long as one over a network."""
    threading.Event().wait(LATENCY_S)


@contextlib.contextmanager
def person(folder: Path, tasks: int) -> Iterator[Notebook]:
    """Share the cache of the team from an empty folder, with a pipeline of so many tasks."""
    folder.mkdir()
    notebook = Notebook(folder)
    notebook.session.share("s3://team/cache")
    notebook.cell(f"%channel numbers = from_iterable(range({tasks}))")
    notebook.cell("%%process square(n) from numbers\nn * n")
    yield notebook
    notebook.close()


def run(notebook: Notebook, cached: int) -> float:
    """Run to the end, and see that so many tasks were cached; return the seconds."""
    began = time.perf_counter()
    going = notebook.session.start([])
    assert going.wait(PATIENCE_S)
    took = time.perf_counter() - began
    assert going.progress().total("cached") == cached, going.progress()
    return took


def settled(notebook: Notebook) -> float:
    """Wait until all is sent that there is to send; return the seconds."""
    tier, began = notebook.session.tier(), time.perf_counter()
    assert tier is not None
    assert tier.finish(PATIENCE_S)
    return time.perf_counter() - began


def measure(quick: bool) -> Iterator[Figure]:
    """Yield the figures."""
    tasks = TASKS // 10 if quick else TASKS
    os.environ.update(s3_servers.CREDENTIALS)
    with tempfile.TemporaryDirectory() as temporary, s3_servers.s3_server() as url:
        s3_servers.make_bucket(url, "team")
        proxy = Proxy(url)
        os.environ["AWS_ENDPOINT_URL"] = proxy.url
        os.environ.setdefault("NBCACHE_CONFIG_DIR", f"{temporary}/settings")
        with person(Path(temporary, "anna"), tasks) as anna:
            run(anna, 0)
            settled(anna)
        with proxy.when(late):
            began = time.perf_counter()
            with person(Path(temporary, "ben"), tasks) as ben:
                opened = time.perf_counter() - began
                took = run(ben, tasks)
                requests = len(proxy.requests)
                sent = settled(ben)
                again = run(ben, tasks)
                settled(ben)
        proxy.close()
    yield Figure(name="share from an empty machine, 50 ms latency, s", value=opened, budget=3)
    yield Figure(
        name=f"first run of {tasks:,} cached tasks, 50 ms latency, s",
        value=took,
        budget=10,
        peers={"the same when it is here": again},
    )
    yield Figure(name="requests until that run had ended", value=requests, budget=30)
    yield Figure(name="told the others and copied the rows, after it, s", value=sent)
    yield from measure_finding(tasks)


def measure_finding(count: int) -> Iterator[Figure]:
    """So many results that another has signed, found in 20 segments, in seconds of a processor."""
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        store, root = MemoryStore(), Path(temporary)
        patch.setenv("NBCACHE_CONFIG_DIR", str(root / "anna's settings"))
        key, sign = make_key("anna"), Signer(makes_key=False).sign
        anna = Shared.open(store, root / "anna", Cache.open(root / "anna").blobs)
        port = Port("y", Stored(hash_of("y"), "value", "json", 1, inline=b"1"))
        hashes = [hash_of(str(number)) for number in range(count)]
        for first in range(0, count, count // 20):
            rows = [attempt(hash=each, outputs=(port,)) for each in hashes[first:][: count // 20]]
            send_segment(anna, [json.loads(encode_row(each, sign)) for each in rows])
        patch.setenv("NBCACHE_CONFIG_DIR", str(root / "ben's settings"))
        trust_key(key.public, "anna")
        ben = Shared.open(store, root / "ben", Cache.open(root / "ben").blobs)
        ben.mirror.refresh()
        took = []
        for _ in range(2):
            began = time.process_time()
            assert all(ben.find(each) is not None for each in hashes)
            took.append(time.process_time() - began)
    first_time, again = took
    yield Figure(
        name=f"find {count:,} results that another has signed, s",
        value=again,
        budget=1,
        peers={"for the first time, when each signature is checked": first_time},
    )


if __name__ == "__main__":
    main(measure)
