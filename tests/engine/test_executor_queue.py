"""What waits inside of busy workers: begun once, in turn, never lost with a worker that dies."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcache.engine.executors.handle import DEPTH, Running, TokenTaker, WorkerHandle
from nbcache.engine.executors.local import LocalExecutor
from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec
from tests.engine.attempts import Bench

APPEND = "import os\nwith open(log, 'a') as file:\n    file.write(f'{x}\\n')\ny = x"


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Bench]:
    """Return a pool of one worker."""
    bench = Bench(tmp_path / "cache", lambda root: LocalExecutor(root, workers=1, grace_s=0.2))
    yield bench
    bench.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Bench]:
    """Return a pool of two workers."""
    bench = Bench(tmp_path / "cache", lambda root: LocalExecutor(root, workers=2, grace_s=0.2))
    yield bench
    bench.close()


def outcomes(bench: Bench, futures: list[asyncio.Future[AttemptReport]]) -> list[str]:
    return [bench.finish(future).outcome for future in futures]


def test_many_attempts_at_once_run_in_order_and_once_each(single: Bench, tmp_path: Path) -> None:
    log = tmp_path / "begun"
    process = single.process(APPEND, captured={"log": str(log)})
    futures = [single.start(process, {"x": n})[1] for n in range(3 * DEPTH)]

    assert set(outcomes(single, futures)) == {"completed"}
    assert log.read_text().split() == [str(n) for n in range(3 * DEPTH)]


def test_a_death_fails_the_running_attempt_and_none_that_waits_behind_it(
    single: Bench, tmp_path: Path
) -> None:
    log = tmp_path / "begun"
    body = f"{APPEND}\nif x == 3:\n    import signal\n    os.kill(os.getpid(), signal.SIGKILL)"
    process = single.process(body, captured={"log": str(log)})
    futures = [single.start(process, {"x": n})[1] for n in range(8)]

    assert outcomes(single, futures) == ["completed"] * 3 + ["failed"] + ["completed"] * 4
    assert log.read_text().split() == [str(n) for n in range(8)]


WAIT = (
    "\nif x == 0:\n    import time\n    while not os.path.exists(gate):\n        time.sleep(0.005)"
)


def test_a_waiting_attempt_that_is_killed_never_begins_and_disturbs_none(
    single: Bench, tmp_path: Path
) -> None:
    log, gate = tmp_path / "begun", tmp_path / "gate"
    process = single.process(APPEND + WAIT, captured={"log": str(log), "gate": str(gate)})
    started = [single.start(process, {"x": n}) for n in range(4)]
    single.until(log.exists)
    single.executor.kill(started[2][0].id, "not wanted")
    gate.touch()

    ended = outcomes(single, [future for _, future in started])
    assert ended == ["completed", "completed", "aborted", "completed"]
    assert log.read_text().split() == ["0", "1", "3"]


def test_what_waits_behind_a_long_attempt_goes_to_an_idle_worker(
    pair: Bench, tmp_path: Path
) -> None:
    log, gate = tmp_path / "begun", tmp_path / "gate"
    process = pair.process(APPEND + WAIT, captured={"log": str(log), "gate": str(gate)})
    assert set(outcomes(pair, [pair.start(process, {"x": n})[1] for n in (7, 8)])) == {"completed"}
    futures = [pair.start(process, {"x": n})[1] for n in range(6)]

    assert set(outcomes(pair, futures[1:])) == {"completed"}
    assert not futures[0].done()
    gate.touch()
    assert pair.finish(futures[0]).outcome == "completed"
    assert sorted(log.read_text().split()) == ["0", "1", "2", "3", "4", "5", "7", "8"]


def test_a_limited_attempt_has_its_worker_for_itself(single: Bench) -> None:
    process = single.process("import time\ntime.sleep(60 if x == 0 else 0)\ny = x")
    slow = single.start(process, {"x": 0}, time=0.05)[1]
    futures = [single.start(process, {"x": n})[1] for n in (1, 2)]

    assert single.finish(slow).outcome == "failed"
    assert outcomes(single, futures) == ["completed"] * 2


def test_what_was_taken_back_is_not_begun_and_what_comes_after_is() -> None:
    ours, theirs = socket.socketpair()
    worker = WorkerHandle(0, ours)
    taker = TokenTaker(os.dup(worker.token_end))
    loop = asyncio.new_event_loop()
    process = ProcessSpec(key="p", name="p", language="python", body="", root="")
    attempts = [
        Running(
            AttemptSpec(id=name, task=name, process="p"), process, loop.create_future(), None, None
        )
        for name in "abcd"
    ]
    try:
        tokens = [worker.add(each) for each in attempts[:3]]

        assert taker.may_begin(tokens[0])
        assert worker.take_back() == attempts[1:3]
        assert list(worker.assigned) == attempts[:1]
        assert worker.take_back() == []
        last = worker.add(attempts[3])
        assert [taker.may_begin(token) for token in (*tokens[1:], last)] == [False, False, True]
    finally:
        loop.close()
        taker.close()
        worker.close()
        theirs.close()
