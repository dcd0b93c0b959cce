"""64 racers in four processes, which all want to be the first to create the same key."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from typing import Any

from nbcache.store.remote.protocol import Store
from tests.store.conformance.places import Place
from tests.waiting import PATIENCE_S

PROCESSES, THREADS = 4, 16


class Racers:
    """Processes that wait for a place and keys to race for."""

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    def race(self, place: Place, keys: list[str]) -> dict[str, list[bytes]]:
        """Return for each key what those wrote who were told that they were first."""
        for connection in self._connections:
            connection.send((place, keys, dict(os.environ)))
        winners: dict[str, list[bytes]] = {key: [] for key in keys}
        for connection in self._connections:
            assert connection.poll(PATIENCE_S), "a racer does not answer"
            for key, data in connection.recv():
                winners[key].append(data)
        return winners


@contextlib.contextmanager
def racers() -> Iterator[Racers]:
    """Start the processes, and end them."""
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(PROCESSES)
    ours: list[Connection] = []
    processes: list[SpawnProcess] = []
    for number in range(PROCESSES):
        mine, theirs = spawn.Pipe()
        process = spawn.Process(target=_run, args=(number, theirs, start), daemon=True)
        process.start()
        theirs.close()
        ours.append(mine)
        processes.append(process)
    try:
        yield Racers(ours)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _run(number: int, connection: Connection, start: Barrier) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        while True:
            place, keys, environment = connection.recv()
            os.environ.update(environment)  # credentials of a server that started after us
            store = place.open()
            list(store.list())  # connect
            won: list[tuple[str, bytes]] = []
            for key in keys:
                start.wait(PATIENCE_S)
                won += _race(store, key, number, threads)
            store.close()
            connection.send(won)


def _race(store: Store, key: str, number: int, threads: ThreadPoolExecutor) -> list[Any]:
    ready = threading.Barrier(THREADS)

    def run(thread: int) -> bytes | None:
        data = b"process %d, thread %d" % (number, thread)
        ready.wait()
        return data if store.put_if_absent(key, data) else None

    return [(key, data) for data in threads.map(run, range(THREADS)) if data is not None]
