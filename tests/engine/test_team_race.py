"""Many who run one pipeline at once over one server: what one computes the others take.

`NBCACHE_TEST_RACERS` (3) says how many there are, `NBCACHE_TEST_RACES` (1) how often they race.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import s3 as s3_servers
from tests.servers.proxy import Fault, LoseReply, Proxy, Refuse, Request
from tests.waiting import PATIENCE_S, wait_until

RACERS = int(os.environ.get("NBCACHE_TEST_RACERS", "3"))
ROUNDS = int(os.environ.get("NBCACHE_TEST_RACES", "1"))
TASKS = 6
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
        self._starting: list[str] = []  # those that have not said yet that they are ready

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
        self._starting.append(name)

    def go(self, first: int) -> None:
        """Let all racers begin on the numbers from `first` on, once all of them are ready."""
        while self._starting:
            racer = self.racers[self._starting.pop()]
            assert racer.stdout is not None
            line = racer.stdout.readline()
            assert line == "ready\n", (line, racer.stderr.read() if racer.stderr else "")
        for each in self.racers.values():
            assert each.stdin is not None
            each.stdin.write(f"{first}\n")
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
            said = racer.communicate(timeout=PATIENCE_S)
            assert racer.returncode == 0, (name, said)

    def began(self) -> list[str]:
        """Return the tasks whose bodies have begun, once for each time."""
        return [line.split()[0] for line in self.trace.read_text().splitlines()]

    def close(self) -> None:
        for racer in self.racers.values():
            racer.kill()
            racer.communicate()


@contextlib.contextmanager
def race(tmp_path: Path, proxy: Proxy, number: int) -> Iterator[Race]:
    made = Race(tmp_path / f"race{number}", proxy.url, f"s3://team/race{number}-{os.getpid()}")
    try:
        yield made
    finally:
        made.close()


def tasks_from(first: int) -> list[str]:
    """Return the names of all tasks of the pipeline on the numbers from `first` on."""
    numbers = range(first, first + TASKS)
    return sorted([*(f"spell{n}" for n in numbers), *(f"length{n}" for n in numbers)])


def values_from(first: int) -> list[int]:
    return [2_000 * n for n in range(first, first + TASKS)]


CALM, ROUGH = 0, 100  # the numbers from which on the two races are


@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_many_run_at_once_runs_once_and_is_done_whoever_dies_while_the_network_fails(
    tmp_path: Path, proxy: Proxy, number: int
) -> None:
    chance = random.Random(number)

    def rule(request: Request) -> Fault | None:
        return chance.choices([LoseReply(), BUSY, None], [1, 1, 18])[0]

    with race(tmp_path, proxy, number) as runners:
        for each in range(RACERS):
            runners.enter(f"racer{each}")
        runners.go(CALM)
        calm = runners.ends()
        began = runners.began()
        with proxy.when(rule):
            runners.go(ROUGH)
            wait_until(lambda: runners.began()[len(began) :], "a body that begins")
            for each in range(max(1, RACERS // 3)):
                runners.kill(f"racer{each}")
            rough = runners.ends()
        runners.leave()
        runners.enter("late")
        runners.go(ROUGH)
        late = runners.ends()["late"]

    assert sorted(began) == tasks_from(CALM), "each once, and nothing else"
    assert {tuple(each["values"]) for each in calm.values()} == {tuple(values_from(CALM))}
    outcomes = sum((Counter(each["outcomes"]) for each in calm.values()), Counter[str]())
    assert outcomes == {"completed": 2 * TASKS, "cached": 2 * TASKS * (RACERS - 1)}

    assert set(runners.began()[len(began) :]) == set(tasks_from(ROUGH))
    assert [each["failures"] for each in rough.values()] == [[]] * len(rough)
    assert {tuple(each["values"]) for each in rough.values()} == {tuple(values_from(ROUGH))}
    assert late["values"] == values_from(ROUGH)
    assert late["outcomes"] == {"cached": 2 * TASKS}
