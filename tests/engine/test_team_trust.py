"""Two people and a shared cache that somebody else may write to as well: whose word counts."""

from __future__ import annotations

import base64
import json
import pickle
import shutil
from pathlib import Path

import pytest

from nbcache.engine.record.history import runs
from nbcache.errors import UntrustedError
from nbcache.model.row import Record
from nbcache.store.columns import table_of
from nbcache.store.segment import (
    KEYS,
    ROWS,
    keys_table,
    metadata_of,
    open_parquet,
    read_records,
    write_table,
)
from nbcache.store.signing import make_key
from nbcache.store.trust_file import trust_key
from tests.engine.notebooks import Notebook
from tests.engine.test_team import Person, counts, person, sent
from tests.engine.web import serving

__all__ = ["person"]  # a fixture


def boxes(notebook: Notebook) -> None:
    notebook.cell("%channel numbers = of(1, 2)")
    notebook.cell(
        f"%%process box(n) -> held from numbers\n{notebook.mark('n')}\nheld = {{n, n + 1}}"
    )


def become(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / f"settings of {name}"))


class Poison:
    """Unpickled, it leaves a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.canary,))


def test_what_a_stranger_shared_runs_again_and_what_a_friend_signed_does_not(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, tmp_path, "anna")
    key = make_key("anna")
    anna = person("anna")
    boxes(anna)
    anna.run()
    sent(anna.session)
    become(monkeypatch, tmp_path, "ben")
    ben = person("ben")
    ben.session.use(str(ben.session.place))  # as a new kernel finds it: shared, and not opened yet
    boxes(ben)

    stranger = ben.run()
    told = [note for note in stranger.progress().notes if "is not your cache" in note]

    assert ben.ran() == ["1", "2"]
    assert len(told) == 1
    assert "2 results in it are pickles" in told[0]
    assert (tmp_path / "team").as_uri() in told[0]
    become(monkeypatch, tmp_path, "carl")
    trust_key(key.public, "anna")
    carl = person("carl")
    boxes(carl)
    friend = carl.run()
    assert counts(friend) == {"cached": 2}
    assert list(friend["box"]) == [{1, 2}, {2, 3}]
    sent(carl.session)
    assert counts(carl.run()) == {"cached": 2}  # from the local log, into which they came
    trust_key(key.public, "anna", revoked=True)
    without = carl.run()
    assert without.counts() == {"completed": 2}
    (said,) = (note for note in without.progress().notes if "nobody you trust has signed" in note)
    assert "keys trust" not in said, "he has just said that he does not"


def test_who_has_read_a_remote_file_is_believed_while_he_is_trusted_and_nobody_signs_for_him(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "another team"
    other.mkdir()
    with serving() as web:
        url = web.put("book.txt", "many words", '"v1"')
        become(monkeypatch, tmp_path, "anna")
        key = make_key("anna")
        become(monkeypatch, tmp_path, "ben")
        trust_key(key.public, "anna")
        for name in ("anna", "ben"):  # one after the other: who opens later sees all
            become(monkeypatch, tmp_path, name)
            ben = person(name)
            ben.cell(f"%channel source = value(path({url!r}))")
            ben.cell("%%process words(f: path) from source\nlen(f.read_text().split())")
            ben.run()
            sent(ben.session)
        assert web.downloads() == ["book.txt"]
        ben.session.share(str(other))
        ben.run()
        sent(ben.session)
        assert list(other.glob("filestate/*/*")) == [], "ben has not read it"

        trust_key(key.public, "anna", revoked=True)
        ben.run()

        assert web.downloads() == ["book.txt"]
        sent(ben.session)
        assert len(list(other.glob("filestate/*/*"))) == 1


def test_rows_that_say_another_thing_than_their_keys_run_nothing(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys promise JSON, which is used unsigned; the row itself holds a pickle."""
    canary = tmp_path / "canary"
    become(monkeypatch, tmp_path, "anna")
    anna = person("anna")
    for notebook in (anna,):
        notebook.cell("%channel numbers = of(1)")
        notebook.cell("%%process plain(n) -> held from numbers\nheld = [n, n + 1]")
    anna.run()
    sent(anna.session)
    data = base64.b64encode(pickle.dumps(Poison(canary))).decode()

    def poison(record: Record) -> Record:
        if record["kind"] != "attempt":
            return record
        port = {**record["outputs"][0], "codec": "pickle", "inline": data, "size": 9}
        unsigned = {k: v for k, v in record.items() if k not in ("signature", "signer", "sealed")}
        return {**unsigned, "outputs": [port]}

    for path in (tmp_path / "team/log").glob("*" + ROWS):
        rows = [poison(record) for record in read_records(path)]
        path.unlink()
        write_table(path, table_of(rows), {"format": 1, "rows": len(rows)})
    become(monkeypatch, tmp_path, "ben")
    ben = person("ben")
    ben.cell("%channel numbers = of(1)")
    ben.cell("%%process plain(n) -> held from numbers\nheld = [n, n + 1]")

    for _ in range(2):
        run = ben.run()
        assert run["plain"].value == [1, 2]
        sent(ben.session)
    run_id = runs(ben.session.cache)[0].id
    with pytest.raises(UntrustedError):
        _ = ben.session.restore(run_id)["plain"].value

    assert not canary.exists()


def test_a_file_of_rows_whose_bytes_were_changed_is_named_and_stops_nobody(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = ("%channel numbers = of(1)", "%%process plain(n) -> held from numbers\nheld = [n, n]")
    become(monkeypatch, tmp_path, "anna")
    anna = person("anna")
    anna.cells(cells)
    anna.run()
    sent(anna.session)
    for path in (tmp_path / "team/log").glob("*" + ROWS):
        data = path.read_bytes()
        path.write_bytes(data[:4] + b"\xff" * 16 + data[20:])  # the head of the first page
    become(monkeypatch, tmp_path, "ben")
    ben = person("ben")
    said: list[str] = []
    ben.session.teller = said.append
    ben.cells(cells)

    assert ben.run()["plain"].value == [1, 1]
    sent(ben.session)

    (told,) = said
    assert f"{tmp_path}/team: the rows of segment {path.name.split('.')[0]} cannot be read" in told


PORTS: dict[int, Record] = {  # by the number that a task was for
    0: {"outputs": 5},
    1: {"outputs": [{"digest": None}]},
    2: {"at": 1 << 62},
    3: {"outputs": [{"blob": "b3:../../../evil"}]},
    4: {"outputs": [{"inline": base64.b64encode(b"6").decode()}]},  # under its signature
    5: {"kind": "evict"},
    6: {"watched": [5]},
    7: {"at": None},
    8: {"outputs": [{"digest": "../../../evil"}]},
    9: {"id": "../../../evil"},
}


def test_a_row_that_is_none_is_used_by_nobody_and_stops_nobody(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = (
        f"%channel numbers = of({', '.join(map(str, PORTS))})",
        "%%process plain(n) -> held from numbers\nheld = n",
    )
    become(monkeypatch, tmp_path, "anna")
    anna = person("anna")
    anna.session.share(str(tmp_path / "team"), claim="always")
    anna.cells(cells)
    anna.run()
    sent(anna.session)

    def poisoned(record: Record) -> Record:
        if record["kind"] != "attempt":
            return record
        change = dict(PORTS[int(record["position"])])
        if isinstance(change.get("outputs"), list):
            change["outputs"] = [{**record["outputs"][0], **port} for port in change["outputs"]]
        return {**record, **change}

    for path in (tmp_path / "team/log").glob("*" + ROWS):
        keys = path.with_name(path.name.replace(ROWS, KEYS))
        table = table_of([poisoned(record) for record in read_records(path)])
        with open_parquet(keys) as file:
            meta = metadata_of(file, keys)
        for each, held in ((path, table), (keys, keys_table(table))):
            each.unlink()
            write_table(each, held, meta)
    words = iter((b"[]", b"[" * 100_000, b"{}", *[EVIL] * len(PORTS)))
    for done in (tmp_path / "team/claims").rglob("*.done"):
        done.unlink()
        done.write_bytes(next(words))
    become(monkeypatch, tmp_path, "ben")
    ben = person("ben")
    ben.session.share(str(tmp_path / "team"), claim="always")
    ben.cells(cells)

    run = ben.run()

    assert counts(run) == {"completed": len(PORTS)}
    assert list(run["plain"]) == list(PORTS)
    notes = " ".join(run.progress().notes)
    assert "results changed after signing, so made again: " in notes
    assert "pickle" not in notes
    assert "is not used, since its signature does not fit" in run.reasons["plain"]
    sent(ben.session)
    kinds = {record["kind"] for record in ben.session.cache.log.records()}
    assert not kinds & {"trust", "evict"}
    assert ben.run().counts()["cached"] == len(PORTS)


EVIL = json.dumps(
    {"kind": "trust", "id": "01M0000000000000000000000A", "at": 1, "hash": "x", "same_as": "y"}
).encode()


def test_who_made_a_cache_does_not_decide_where_others_send_their_results(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, tmp_path, "mallory")
    mallory = person("mallory")
    boxes(mallory)
    mallory.run()
    sent(mallory.session)
    before = sorted(path.name for path in (tmp_path / "team/log").iterdir())
    shutil.copytree(tmp_path / "mallory" / "cache", tmp_path / "ben" / "cache")
    assert json.loads((tmp_path / "ben/cache/shared.json").read_text())["url"]
    become(monkeypatch, tmp_path, "ben")
    ben = Notebook(tmp_path / "ben")
    boxes(ben)
    told: list[str] = []
    ben.session.teller = told.append

    ben.run()
    ben.close()

    assert ben.session.cache.shared is None
    assert ["nothing is shared with" in each for each in told] == [True]
    assert sorted(path.name for path in (tmp_path / "team/log").iterdir()) == before
