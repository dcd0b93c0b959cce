"""Two kernels and a shell on one cache at once: each task runs once, everybody is answered.

`NBCACHE_KILL_ROUNDS=50` for more rounds in which one of the kernels is killed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import psutil

from tests.faults.test_kernel_kill import REPOSITORY, Actor, check
from tests.waiting import PATIENCE_S

ROUNDS = int(os.environ.get("NBCACHE_KILL_ROUNDS", "1"))
QUESTIONS = (
    ("status", "--json"),
    ("runs",),
    ("log", "all", "--json"),
    ("sql", "SELECT process, status, count(*) FROM tasks GROUP BY ALL"),
    ("verify", "--quick"),
)


def ask(cache: Path, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nbcache", *words[:1], "--cache", str(cache), *words[1:]],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_two_kernels_that_start_the_same_tasks_run_each_once_while_a_shell_asks(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    actors = [Actor(cache, 0), Actor(cache, 0)]
    for actor in actors:
        assert actor.read_until(b"started", PATIENCE_S)
    for words in QUESTIONS:
        answer = ask(cache, words)
        assert answer.returncode == 0, (words, answer.stderr)
    for actor in actors:
        assert actor.read_until(b"done", PATIENCE_S)
    first, second = (actor.end() for actor in actors)
    assert first.status == second.status == "succeeded"
    assert first.announced.keys() == second.announced.keys()
    for name in first.announced:
        assert {first.announced[name], second.announced[name]} == {"completed", "cached"}, name
    check(cache, first, set())
    check(cache, second, set())


def test_when_one_of_two_kernels_is_killed_the_other_takes_over(tmp_path: Path) -> None:
    chance = random.Random(ROUNDS)
    for number in range(ROUNDS):
        cache = tmp_path / f"cache{number}"
        killed, other = Actor(cache, number), Actor(cache, number)
        assert killed.read_until(b"started", PATIENCE_S)
        killed.read_until(b"done", chance.uniform(0, 1.2))
        first = killed.end()
        assert other.read_until(b"done", PATIENCE_S), "it waited for a claim of the dead"
        second = other.end()
        assert second.status == "succeeded"
        again = [name for name, how in first.announced.items() if how == "completed"]
        assert not [name for name in again if second.announced[name] == "completed"]
        _, alive = psutil.wait_procs([*first.children, *second.children], timeout=PATIENCE_S)
        assert not alive
        check(cache, second, set())
