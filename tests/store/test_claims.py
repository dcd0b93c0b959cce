from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nbcache.store.cache import Cache
from nbcache.store.claims import Claim, Claims
from tests.store.rows import hash_of

HOLDER = """
import sys
from nbcache.store.cache import Cache
claim = Cache.open(sys.argv[1]).claims.try_claim(sys.argv[2])
print(claim is not None, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(params=["bytes", "files"])
def claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Claims:
    if request.param == "files":  # as on macOS
        monkeypatch.setattr("nbcache.store.claims._OFD_SETLK", None)
    return Cache.open(tmp_path / "c").claims


def test_a_hash_is_claimed_once_until_it_is_released(claims: Claims) -> None:
    first = claims.try_claim(hash_of("a"))

    assert first is not None
    assert claims.try_claim(hash_of("a")) is None
    other = claims.try_claim(hash_of("b"))
    assert other is not None
    first.release()
    first.release()
    second = claims.try_claim(hash_of("a"))
    assert second is not None
    first.release()  # a claim that was given back does not give back another's
    assert claims.try_claim(hash_of("a")) is None


def test_two_caches_in_one_process_exclude_each_other(claims: Claims) -> None:
    other = Claims(claims.root)
    held = claims.try_claim(hash_of("a"))

    assert held is not None
    assert other.try_claim(hash_of("a")) is None
    held.release()
    assert other.try_claim(hash_of("a")) is not None
    claims.close()
    other.close()


def test_of_many_threads_one_gets_the_claim(claims: Claims) -> None:
    got: list[Claim] = []
    start = threading.Barrier(8)

    def race() -> None:
        start.wait()
        claim = claims.try_claim(hash_of("a"))
        if claim is not None:
            got.append(claim)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_a_claim_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    claims = Cache.open(tmp_path / "c").claims
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(claims.root), hash_of("a")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert claims.try_claim(hash_of("a")) is None

    holder.kill()
    holder.communicate()

    assert claims.try_claim(hash_of("a")) is not None
