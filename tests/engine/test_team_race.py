"""Many who run one pipeline at once over one server: what one computes the others take.

`NBCACHE_TEST_RACERS` (4) says how many there are, `NBCACHE_TEST_RACES` (1) how often they race.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import s3 as s3_servers
from tests.servers.proxy import Fault, LoseReply, Proxy, Refuse, Request

RACERS = int(os.environ.get("NBCACHE_TEST_RACERS", "4"))
ROUNDS = int(os.environ.get("NBCACHE_TEST_RACES", "1"))
TASKS = 6
PATIENCE_S = 280.0
VALUES = [2_000 * n for n in range(TASKS)]
BUSY = Refuse(
    503,
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>slower</Message></Error>",
    {"Content-Type": "application/xml"},
)
pytestmark = pytest.mark.timeout(600 * ROUNDS)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with s3_servers.s3_server() as url:
        s3_servers.make_bucket(url, "team")
        proxy = Proxy(url)
        yield proxy
        proxy.close()


class Race:
    """Racers with one trace and one shared cache; each has a local cache of its own."""

    def __init__(self, root: Path, url: str, place: str) -> None:
        root.mkdir()
        self._root, self._place = root, place
        self.trace = root / "trace"
        self.trace.touch()
        self._environment = {
            **os.environ,
            **s3_servers.CREDENTIALS,
            "AWS_ENDPOINT_URL": url,
            "NBCACHE_CONFIG_DIR": str(root / "settings"),
        }
        self.racers: dict[str, subprocess.Popen[str]] = {}

    def enter(self, name: str) -> None:
        """Start a racer; it waits until it is told to go."""
        job = {
            "name": name,
            "folder": str(self._root / name),
            "url": self._place,
            "trace": str(self.trace),
            "tasks": TASKS,
        }
        self.racers[name] = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.team_racer", json.dumps(job)],
            cwd=Path(__file__).parents[2],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def go(self) -> None:
        """Let all racers begin, once all of them are ready."""
        chosen = [*self.racers.values()]
        for each in chosen:
            assert each.stdout is not None
            line = each.stdout.readline()
            assert line == "ready\n", (line, each.stderr.read() if each.stderr else "")
        for each in chosen:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()

    def kill(self, name: str) -> None:
        """End a racer as a power failure does."""
        racer = self.racers.pop(name)
        racer.kill()
        racer.communicate()

    def ends(self) -> dict[str, dict[str, Any]]:
        """Wait until all have run; return what each says."""
        told = {}
        for name, racer in self.racers.items():
            assert racer.stdout is not None
            line = racer.stdout.readline()
            assert line, (name, racer.communicate())
            told[name] = json.loads(line)
        return told

    def leave(self) -> None:
        """Let all send what they have not sent yet, and end."""
        for name in list(self.racers):
            racer = self.racers.pop(name)
            said = racer.communicate("go\n", timeout=PATIENCE_S)
            assert racer.returncode == 0, (name, said)

    def began(self) -> list[str]:
        """Return the tasks whose bodies have begun, once for each time."""
        return [line.split()[0] for line in self.trace.read_text().splitlines()]

    def close(self) -> None:
        for racer in self.racers.values():
            racer.kill()
            racer.communicate()


@contextlib.contextmanager
def race(tmp_path: Path, proxy: Proxy, number: int, kind: str) -> Iterator[Race]:
    made = Race(tmp_path / f"{kind}{number}", proxy.url, f"s3://team/{kind}{number}-{os.getpid()}")
    try:
        yield made
    finally:
        made.close()


ALL = sorted([*(f"spell{n}" for n in range(TASKS)), *(f"length{n}" for n in range(TASKS))])


@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_many_run_at_once_runs_once(tmp_path: Path, proxy: Proxy, number: int) -> None:
    with race(tmp_path, proxy, number, "calm") as runners:
        for each in range(RACERS):
            runners.enter(f"racer{each}")
        runners.go()

        told = runners.ends()
        runners.leave()

    assert sorted(runners.began()) == ALL, "each once, and nothing else"
    assert {tuple(each["values"]) for each in told.values()} == {tuple(VALUES)}
    outcomes = sum((Counter(each["outcomes"]) for each in told.values()), Counter[str]())
    assert outcomes == {"completed": len(ALL), "cached": len(ALL) * (RACERS - 1)}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_of_those_who_run_one_may_be_killed_while_the_network_fails(
    tmp_path: Path, proxy: Proxy, number: int
) -> None:
    chance = random.Random(number)

    def rule(request: Request) -> Fault | None:
        return chance.choices([LoseReply(), BUSY, None], [1, 1, 18])[0]

    with race(tmp_path, proxy, number, "rough") as runners:
        for each in range(RACERS):
            runners.enter(f"racer{each}")
        with proxy.when(rule):
            runners.go()
            wait_until_somebody_works(runners)
            for each in range(max(1, RACERS // 3)):
                runners.kill(f"racer{each}")
            told = runners.ends()
        runners.leave()
        runners.enter("late")
        runners.go()
        late = runners.ends()["late"]

    assert set(runners.began()) == set(ALL)
    assert [each["failures"] for each in told.values()] == [[]] * len(told)
    assert {tuple(each["values"]) for each in told.values()} == {tuple(VALUES)}
    assert late["values"] == VALUES
    assert late["outcomes"] == {"cached": len(ALL)}


def wait_until_somebody_works(runners: Race) -> None:
    until = time.monotonic() + PATIENCE_S
    while not runners.began():
        assert time.monotonic() < until, "nobody begins"
        threading.Event().wait(0.02)
