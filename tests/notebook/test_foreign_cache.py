"""A cache that somebody else made: what it holds is used, and nothing in it runs.

The poison is a pickle that leaves a file when it is read. Whatever somebody does with a foreign
cache, that file must not come to be.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nbcache.errors import UntrustedError, UsageError
from nbcache.model.row import Record
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.journal import JournalWriter, encode_record
from nbcache.store.signing import make_key, read_key
from nbcache.store.trust_file import trust_key
from nbcache.store.verify import verify
from tests.notebook.shells import Shell, shell_in

PIPELINE = (
    "%channel src = of(1)",
    "%%process make(v) -> box from src\nbox = {v, v + 1}",
    "%%process take(box) -> size from make\nsize = len(box)",
)
CELL = "%%cached group\ngroup = {5, 6}"

As = Callable[[str], None]


class Poison:
    """Unpickled, it leaves a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.canary,))


@pytest.fixture
def become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> As:
    def as_user(name: str) -> None:
        monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / f"settings of {name}"))

    return as_user


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "a foreign pickle was read"


def alice_works(folder: Path, *cells: str) -> None:
    folder.mkdir(exist_ok=True)
    with shell_in(folder) as shell:
        for cell in cells:
            shell.ok(cell)


def poisoned(record: Record, cache: Cache, canary: Path, *, as_blob: bool = True) -> Record:
    """Return a row like `record` whose values run code when they are read."""
    data = pickle.dumps(Poison(canary))
    blob = cache.blobs.put_bytes(data)
    held = {"blob": blob, "inline": None} if as_blob else {"inline": _text(data), "blob": None}
    outputs = [{**each, "codec": "pickle", "size": len(data), **held} for each in record["outputs"]]
    return {**record, "outputs": outputs}


def _text(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def without_nulls(record: Record) -> Record:
    outputs = [{k: v for k, v in each.items() if v is not None} for each in record["outputs"]]
    return {**record, "outputs": outputs}


def add_rows(folder: Path, change: Callable[[Record, Cache], Record]) -> None:
    """Put a changed copy of every result into a cache, as somebody who can write to it may."""
    with Cache.open(folder) as cache:
        made = [
            change(record, cache)
            for record in cache.log.records(("attempt",))
            if record["status"] == "completed"
        ]
    writer = JournalWriter(folder)
    for record in made:
        writer.append_lines(encode_record(without_nulls(record)), 1)
    writer.close()


def unsigned(record: Mapping[str, Any]) -> Record:
    return {k: v for k, v in record.items() if k not in ("signature", "signer", "sealed")}


def newer(record: Record) -> Record:
    return {**record, "id": new_ulid(), "generation": record["generation"] + 10}


def test_nothing_in_a_poisoned_cache_runs_whatever_one_does_with_it(
    tmp_path: Path, become: As, canary: Path
) -> None:
    """Values, plan, why, diff, widget, restore, repeat, cached cells, inputs of workers, debug."""
    become("alice")
    fails = "%%process bad(v) from src\nraise ValueError(v)"
    alice_works(tmp_path / "alice", *PIPELINE, CELL, "%nbcache run")
    with shell_in(tmp_path / "alice") as shell:
        shell.run(f"{PIPELINE[0]}")
        shell.run(fails)
        shell.run("%nbcache run bad")
    shutil.copytree(tmp_path / "alice", tmp_path / "bob")
    become("bob")
    add_rows(
        tmp_path / "bob/.nbcache", lambda record, cache: newer(poisoned(record, cache, canary))
    )
    with shell_in(tmp_path / "bob") as shell:
        cache = shell.session.cache
        assert not cache.is_own
        for cell in PIPELINE:
            shell.ok(cell)
        restored = shell.ok("restored = %nbcache restore")
        assert restored.error is None
        name = next(row.run for row in cache.log.attempts(process="make"))
        with pytest.raises(UntrustedError, match="not yours"):
            _ = shell.session.restore(name)["make"].value

        plan = shell.ok("%nbcache plan").text
        assert "is a pickle, and nobody has signed it" in plan
        shell.ok("%nbcache why make")
        shell.ok("%nbcache diff --data")
        shell.ok("%nbcache lineage take")
        shell.ok("%nbcache show")
        shell.ok("%nbcache report -o -")
        debugged = shell.run("%nbcache debug bad").error
        assert isinstance(debugged, UsageError)
        assert "not yours" in str(debugged)
        told = shell.ok(CELL)
        assert "nobody has signed it" in told.text or shell.ip.user_ns["group"] == {5, 6}

        first = shell.ok("first = %nbcache run")
        assert first.text.count("is not your cache") == 1
        assert "2 results in it are pickles" in first.text or "1 result in it is" in first.text
        assert "nbcache keys trust" in first.text
        assert shell.ip.user_ns["first"]["make"].value == {1, 2}
        assert shell.ip.user_ns["first"]["take"].value == 2
        shell.ok("%nbcache diff --data")
        shell.ok("%nbcache check --repeat")
        again = shell.ok("again = %nbcache run")
        assert "is not your cache" not in again.text  # what bob made is signed with his key
        progress = shell.ip.user_ns["again"].progress()
        assert progress.total("cached") == 2
    assert read_key() is not None


HOW: dict[str, Callable[[Record, Cache, Path], Record]] = {
    "a row of the signer, changed": lambda r, c, p: poisoned(r, c, p),
    "the same, inline": lambda r, c, p: poisoned(r, c, p, as_blob=False),
    "a newer row with an old signature": lambda r, c, p: newer(poisoned(r, c, p)),
    "a newer row without one": lambda r, c, p: newer(unsigned(poisoned(r, c, p))),
}


@pytest.mark.parametrize("how", [*HOW, "a signature of a revoked key", "a swapped blob"])
def test_poison_beside_signed_results_is_passed_over_or_made_again(
    how: str, tmp_path: Path, become: As, canary: Path
) -> None:
    become("alice")
    key = make_key("alice")
    big = "%%process make(v) -> box from src\nbox = {v, 'x' * 6000}"
    alice_works(tmp_path / "alice", PIPELINE[0], big, PIPELINE[2], "%nbcache run")
    shutil.copytree(tmp_path / "alice", tmp_path / "bob")
    cache_folder = tmp_path / "bob/.nbcache"
    become("bob")
    trust_key(key.public, "alice", revoked=how == "a signature of a revoked key")
    if how in HOW:
        add_rows(cache_folder, lambda record, cache: HOW[how](record, cache, canary))
    if how == "a swapped blob":
        with Cache.open(cache_folder) as cache:
            for record in cache.log.records(("attempt",)):
                for port in record["outputs"]:
                    if "blob" in port:
                        path = cache.blobs.path(port["blob"])
                        path.chmod(0o644)
                        data = pickle.dumps(Poison(canary))
                        path.write_bytes(data + b"." * (path.stat().st_size - len(data)))

    with shell_in(tmp_path / "bob") as shell:
        for cell in (PIPELINE[0], big, PIPELINE[2]):
            shell.ok(cell)
        plan = shell.ok("%nbcache plan").text
        shell.ok("run = %nbcache run")
        run = shell.ip.user_ns["run"]

        assert run["take"].value == 2
        if how == "a swapped blob":
            with pytest.raises(Exception, match="damaged"):
                _ = run["make"].value
            assert not verify(shell.session.cache).ok
        else:
            assert run["make"].value == {1, "x" * 6000}
        if how == "a signature of a revoked key":
            assert "signed by a key that you revoked" in plan
        if "changed" in how or "inline" in how:
            assert "row" in {each.kind for each in verify(shell.session.cache).problems}


def shown(shell: Shell) -> str:
    ((_, _, chunks),) = shell.ip.user_ns["run"].shown("make")
    return "\n".join(f"{each.text} {dict(each.bundle)}" for each in chunks)


def test_results_of_somebody_trusted_are_used_with_all_that_they_showed(
    tmp_path: Path, become: As, canary: Path
) -> None:
    shows = (
        "%%process make(v) -> box from src\nfrom IPython.display import HTML, display\n"
        "display(HTML('<b>bold</b>'))\nprint('said')\nbox = {v}"
    )
    plain = shows.replace("box = {v}", "box = [v]")
    become("alice")
    key = make_key("alice")
    alice_works(tmp_path / "alice", PIPELINE[0], shows, "%nbcache run")
    alice_works(tmp_path / "alice", PIPELINE[0], plain, "%nbcache run")
    for name in ("bob", "carol"):
        shutil.copytree(tmp_path / "alice", tmp_path / name)

    become("bob")
    trust_key(key.public, "alice")
    with shell_in(tmp_path / "bob") as shell:
        shell.ok(PIPELINE[0])
        shell.ok(shows)
        told = shell.ok("run = %nbcache run")
        assert shell.ip.user_ns["run"].progress().total("cached") == 1
        assert shell.ip.user_ns["run"]["make"].value == {1}
        assert "is not your cache" not in told.text
        assert "<b>bold</b>" in shown(shell)
    become("carol")
    with shell_in(tmp_path / "carol") as shell:
        shell.ok(PIPELINE[0])
        shell.ok(plain)
        shell.ok("run = %nbcache run")
        assert shell.ip.user_ns["run"].progress().total("cached") == 1
        assert "said" in shown(shell)
        assert "IPython.core.display.HTML" in shown(shell)
        assert "<b>bold</b>" not in shown(shell)


def test_a_notebook_may_look_at_keys_and_only_a_shell_trusts(tmp_path: Path, become: As) -> None:
    become("bob")
    tmp_path.joinpath("work").mkdir()
    with shell_in(tmp_path / "work") as shell:
        assert "you have no key" in shell.ok("%nbcache keys").text
        key = "ed25519:" + "a" * 64
        for words in (f"trust {key}", "revoke alice", "make", "trust ."):
            error = shell.run(f"%nbcache keys {words}").error
            assert isinstance(error, UsageError)
        public = make_key("bob").public
        assert shell.ok("held = %nbcache keys --json").error is None
        assert shell.ip.user_ns["held"]["own"] == public
        assert json.dumps(shell.ip.user_ns["held"]).count("ed25519:") == 2


SCRIPT = "<img src=x onerror=alert(1)>"


def test_texts_of_a_foreign_cache_are_shown_as_texts_in_every_page(
    tmp_path: Path, become: As
) -> None:
    become("mallory")
    alice_works(tmp_path / "mallory", *PIPELINE, "%nbcache run")

    def scripted(value: object, name: str = "") -> object:
        if isinstance(value, dict):
            return {key: scripted(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [scripted(each, name) for each in value]
        names = ("tag", "error", "host", "user", "summary", "reason", "source", "cell", "notebook")
        return f"{value}{SCRIPT}" if isinstance(value, str) and name in names else value

    folder = tmp_path / "mallory" / ".nbcache"
    writer = JournalWriter(folder)
    with Cache.open(folder) as cache:
        made = [record for record in cache.log.records() if record["kind"] in ("attempt", "run")]
    run = {**next(each for each in made if each["kind"] == "run"), "run": "01KAM" + "0" * 21}
    for record in made:
        changed = {**record, "run": run["run"], "id": new_ulid(), "tag": "t", "error": "e"}
        if record["kind"] == "attempt":
            changed |= {"status": "failed", "reason": "r", "traceback": SCRIPT}
        writer.append_lines(encode_record(scripted(changed)), 1)  # type: ignore[arg-type]
    writer.close()
    become("bob")
    with shell_in(tmp_path / "mallory") as shell:
        verbs = (
            "runs",
            "show 01KAM",
            "log 01KAM",
            "log all",
            "why make --run 01KAM",
            "lineage make",
        )
        pages = [shell.ok(f"%nbcache {verb}") for verb in verbs]
        shell.ok("%nbcache report 01KAM -o page.html")
        html = [str(each.get("text/html", "")) for page in pages for each in page.shown]
        html.append(Path("page.html").read_text())

    assert sum("onerror" in each for each in html) >= 2, "the pages do not show these texts at all"
    assert not any(SCRIPT in each for each in html)
