"""What a store is able to do is measured, and said by `nbcache doctor`."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbcache.engine.joining import share
from nbcache.errors import AccessDeniedError, ObjectMissingError
from nbcache.notebook.checkup import Findings, examine_sharing, examine_store
from nbcache.store.cache import Cache
from nbcache.store.remote.header import is_unused, read_header
from nbcache.store.remote.memory import MemoryStore
from nbcache.store.remote.probing import probe
from tests.servers import s3 as s3_servers
from tests.servers.proxy import Proxy, Refuse, always
from tests.store.conformance.bad_stores import LooksThenWrites, OverwritesSilently
from tests.store.conformance.places import AnyPlace, Place

NO = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"


def test_a_store_of_ones_own_is_able_to_do_everything(place: AnyPlace) -> None:
    store = place.open()

    able = probe(store)

    assert (able.read, able.write, able.delete, able.exclusive_create) == (True,) * 4
    assert able.claims
    assert able.clock_offset_s is not None
    assert abs(able.clock_offset_s) < 60
    assert able.faults == ()
    assert list(store.list()) == []


def test_a_store_whose_creates_have_several_winners_has_no_claims() -> None:
    for store in (LooksThenWrites(), OverwritesSilently()):
        able = probe(store)

        assert able.write
        assert not able.exclusive_create
        assert not able.claims
        assert "were told that they created one object" in able.faults[0]


def test_a_server_that_does_not_know_conditional_creates_has_no_claims(s3: Place) -> None:
    proxy = Proxy(s3.options["endpoint"])
    there = replace(s3.fresh(), options={**s3.options, "endpoint": proxy.url})
    unknown = Refuse(501, NO.replace(b"AccessDenied", b"NotImplemented"))

    # The header that makes a create conditional is among those that are signed.
    with proxy.when(lambda r: unknown if "if-none-match" in r.who.lower() else None):
        able = probe(there.open())
    proxy.close()

    assert (able.read, able.write, able.exclusive_create) == (True, True, False)
    assert "NotImplemented" in able.faults[0]


class ReadOnly(MemoryStore):
    def put(self, key: str, data: bytes) -> None:
        raise AccessDeniedError(self.url, "write", key, "no")


class NeverDeletes(MemoryStore):
    def delete(self, keys: Iterable[str]) -> None:
        raise AccessDeniedError(self.url, "delete", next(iter(keys)), "no")


def test_what_a_policy_forbids_is_told_apart() -> None:
    reader, writer = probe(ReadOnly()), probe(NeverDeletes())

    assert (reader.read, reader.write, reader.delete, reader.claims) == (True, False, False, False)
    assert reader.clock_offset_s is None
    assert (writer.read, writer.write, writer.delete, writer.claims) == (True, True, False, True)


def test_the_policies_of_the_guide_give_readers_and_writers_on_s3_what_they_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "sharing.md").read_text()
    (text,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    ((actions, resource),) = re.findall(r"Writers also (.*?) on `(.*?)`", guide)
    reader = json.loads(text)
    more = {"Effect": "Allow", "Action": re.findall(r"`(.*?)`", actions), "Resource": resource}
    writer = {**reader, "Statement": [*reader["Statement"], more]}
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with s3_servers.s3_server(free=7) as url:
        s3_servers.make_bucket(url, "our-bucket")
        users = {
            "reader": s3_servers.make_user(url, "reader", reader),
            "writer": s3_servers.make_user(url, "writer", writer),
        }
        for name, backend in itertools.product(users, ("fsspec", "obstore")):
            for variable, value in users[name].items():
                monkeypatch.setenv(variable, value)
            options = {"endpoint": url, "backend": backend}
            store = Place("s3://our-bucket/nbcache", options).open()

            able, elsewhere = probe(store), probe(Place("s3://our-bucket/x", options).open())

            is_writer = name == "writer"
            found = (able.read, able.write, able.claims, able.delete)
            assert found == (True, is_writer, is_writer, False), (name, backend, able.faults)
            assert (elsewhere.read, elsewhere.write) == (False, False)
            with pytest.raises(ObjectMissingError):
                store.get("missing")


def test_a_cache_is_made_where_the_doctor_of_one_who_may_not_delete_has_been() -> None:
    store = NeverDeletes()
    probe(store)
    assert list(store.list())
    assert is_unused(store)

    header, _ = read_header(store, None)

    assert read_header(store, "to look")[0] == header


def doctor(place: Place, folder: Path) -> tuple[int, dict[str, Any], str]:
    Cache.open(folder / "c").close()
    environment = {"AWS_ENDPOINT_URL": str(place.options["endpoint"])}
    done = subprocess.run(
        [sys.executable, "-m", "nbcache", "doctor", "--json", "--cache", folder / "c", place.url],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_the_doctor_says_what_a_store_is_able_to_do(s3: Place, tmp_path: Path) -> None:
    code, found, _ = doctor(s3.fresh(), tmp_path)

    assert code == 0
    facts = found["facts"]
    assert isinstance(facts, dict)
    assert "s3 through obstore" in facts["store"]
    assert facts["rights"] == "read, write, delete"
    assert facts["claims"].startswith("yes")


def test_the_doctor_says_what_a_reader_may_not(s3: Place, tmp_path: Path) -> None:
    proxy = Proxy(s3.options["endpoint"])
    reader = replace(s3.fresh(), options={"endpoint": proxy.url})

    with proxy.when(lambda r: Refuse(403, NO) if r.method not in ("GET", "HEAD") else None):
        code, found, _ = doctor(reader, tmp_path)
    proxy.close()

    facts = found["facts"]
    assert isinstance(facts, dict)
    assert facts["rights"] == "read"
    assert "store to read from" in facts["claims"]
    assert code == 3  # something is wrong
    assert any("403" in str(each) or "AccessDenied" in str(each) for each in found["problems"])


@pytest.mark.parametrize(
    ("code", "way_out"),
    [("InvalidAccessKeyId", "Renew the credentials"), ("RequestTimeTooSkewed", "Set this machine")],
)
def test_the_doctor_says_why_credentials_are_refused(
    s3: Place, monkeypatch: pytest.MonkeyPatch, code: str, way_out: str
) -> None:
    proxy = Proxy(s3.options["endpoint"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    found = Findings()

    with proxy.when(always(Refuse(403, NO.replace(b"AccessDenied", code.encode())))):
        examine_store(found, s3.url)
    proxy.close()

    (problem,) = found.problems
    assert code in problem
    assert way_out in problem


def test_the_doctor_looks_at_the_store_behind_a_cache(tmp_path: Path) -> None:
    team = tmp_path / "team"
    team.mkdir()
    with Cache.open(tmp_path / "c") as cache:
        tier = share(cache, str(team), read_only=False, tell=print)
        assert tier is not None
        tier.close()

        def said() -> str:
            examine_sharing(found := Findings(), cache)
            return "\n".join(found.lines)

        header = (team / "nbcache.json").read_text()
        shutil.rmtree(team / "probes", ignore_errors=True)
        assert said().endswith("all is well")
        assert f"read (what else is tried by `%nbcache doctor {team}`" in said()
        assert not (team / "probes").exists()
        (team / "inner").mkdir()
        examine_store(inside := Findings(), str(team / "inner"))
        assert "lies inside the cache" in inside.problems[0]
        shutil.rmtree(team / "inner")
        (team / "nbcache.json").write_text(header.replace('"format": 1', '"format": 2'))
        assert "Upgrade nbcache" in said()
        (team / "nbcache.json").write_text("{")
        assert "Put back an earlier version" in said()
        (team / "nbcache.json").rename(team / "data.json")
        assert "holds other things" in said()
        team.rename(tmp_path / "elsewhere")
        assert "the folder is not there" in said()


def test_the_doctor_says_that_there_is_no_such_store(s3: Place, tmp_path: Path) -> None:
    gone = Place("s3://never-made/x", s3.options)
    unknown = Place("ftp://host/x", s3.options)

    code, found, _ = doctor(gone, tmp_path)
    assert code == 3  # something is wrong
    assert any("never-made" in str(each) for each in found["problems"])
    code, _, said = doctor(unknown, tmp_path)
    assert code != 0
    assert "ftp:// is no kind of store" in said
