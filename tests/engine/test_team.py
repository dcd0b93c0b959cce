"""Two people, two caches, one shared cache behind both: what one has made the other uses."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nbcache.engine import tier as tiers
from nbcache.engine.identity.remote import RemoteFiles
from nbcache.engine.record.explanations import why
from nbcache.engine.record.process_reasons import why_process
from nbcache.engine.record.query import fetch
from nbcache.engine.record.usage import usage
from nbcache.engine.running import claiming
from nbcache.engine.running.run import Run
from nbcache.engine.session import Session
from nbcache.engine.sharing import Sharing, sharing_of
from nbcache.engine.tier import Tier
from nbcache.engine.upkeep.cleaning import clean
from nbcache.errors import CacheFormatError, NbcacheError, RemoteStoreError, ResultGone
from nbcache.model.ids import make_ulid
from nbcache.model.value import RemoteFile, Stored
from nbcache.notebook import verbs
from nbcache.notebook.team_view import share_in_shell, sharing_in_shell
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.remote import leases
from nbcache.store.remote.folder import FolderStore
from nbcache.store.signing import make_key
from nbcache.store.verify import verify
from tests.engine.notebooks import Notebook
from tests.engine.teammate import Mate
from tests.engine.web import serving
from tests.store.rows import attempt
from tests.waiting import PATIENCE_S, wait_until

Person = Callable[[str], "Notebook"]

PIPELINE = (
    "%channel numbers = of(1, 2, 3)",
    "%%process big(n) -> table, size from numbers\n"
    "import numpy\n{mark}\ntable = numpy.full(100_000, n)\nsize = len(table)",
    "%%process total(table) from big\n{mark2}\nint(table.sum())",
    "%%process report(total) -> text: path from total.collect()\n{mark3}\n"
    "import pathlib\npathlib.Path('text').write_text(str(sorted(total)))",
)


def pipeline(notebook: Notebook) -> None:
    """Declare three processes: arrays that are blobs, their sums, a file that gathers them."""
    for text in PIPELINE:
        text = text.replace("{mark}", notebook.mark("f'big{n}'"))
        text = text.replace("{mark2}", notebook.mark("f'total{table[0]}'"))
        notebook.cell(text.replace("{mark3}", notebook.mark("'report'")))


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all people one user, who trusts the key that sharing makes."""
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / "settings"))


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Make a person: a notebook in a folder of her own, shared with the folder `team`."""
    people: list[Notebook] = []

    def make(name: str) -> Notebook:
        folder = tmp_path / name
        for each in (folder, tmp_path / "team"):
            each.mkdir(exist_ok=True)
        notebook = Notebook(folder)
        notebook.trace = tmp_path / "trace.log"  # one for all: it stands in the bodies
        notebook.session.share(str(tmp_path / "team"))
        people.append(notebook)
        return notebook

    yield make
    for each in people:
        each.close()


def sent(session: Session) -> None:
    """Wait until all that was made is in the shared cache."""
    tier = session.tier()
    assert tier is not None
    assert tier.finish(PATIENCE_S)


def blobs_of(notebook: Notebook) -> int:
    return sum(1 for each in (notebook.folder / "cache" / "blobs").rglob("*") if each.is_file())


def counts(run: Run) -> dict[str, int]:
    return dict(Counter(task.outcome.value for task in run.tasks.values()))


def test_what_one_has_made_runs_nowhere_else(person: Person) -> None:
    anna = person("anna")
    pipeline(anna)
    anna.run()
    assert len(anna.ran()) == 7
    sent(anna.session)
    ben = person("ben")
    pipeline(ben)

    run = ben.run()

    assert ben.ran() == []
    assert run.notes == []
    assert blobs_of(ben) == 0, "nobody looked at a value yet"
    sent(ben.session)  # and the rows that its hits used have come
    told = why_process(ben.session.cache, ["big"])
    assert told is not None
    assert re.search(r"equal to that of run \w{26} of \S", told.lines[0]), "here it has no name"
    assert [int(table[0]) for table, _ in ben.session.read(ben.names["big"])] == [1, 2, 3]
    assert ben.session.read(ben.names["report"]).value.read_text() == "[100000, 200000, 300000]"


def test_a_plan_counts_with_the_cache_that_its_notebook_shares_and_changes_nothing(
    person: Person, tmp_path: Path
) -> None:
    anna = person("anna")
    pipeline(anna)
    anna.run()
    sent(anna.session)
    (tmp_path / "ben").mkdir()
    (tmp_path / "empty").mkdir()
    with closing(Notebook(tmp_path / "ben")) as ben:
        ben.trace = anna.trace
        ben.session.is_dry = True
        ben.session.share(str(tmp_path / "team"))
        pipeline(ben)

        assert {plan.name: (plan.cached, plan.to_run) for plan in ben.session.plan()} == {
            "big": (3, 0), "total": (3, 0), "report": (1, 0)
        }  # fmt: skip
        assert sharing_of(ben.session.cache.root) is None
        said: list[str] = []
        ben.session.teller = said.append
        assert ben.session.share(str(tmp_path / "empty")) is None
        assert ben.session.share(str(tmp_path / "empty"), read_only=True) is None
        (tmp_path / "team" / "below").mkdir()
        assert ben.session.share(str(tmp_path / "team" / "below")) is None
        made, missing, nested = said
        assert made.endswith("/empty yet; the run makes it")
        assert "Somebody who may write makes it" in missing
        assert "lies inside the cache at" in nested
        assert list((tmp_path / "empty").iterdir()) == []


def test_an_input_that_cannot_be_put_away_is_not_fetched_over_and_over(person: Person) -> None:
    anna = person("anna")
    pipeline(anna)
    made = anna.run("big")
    sent(anna.session)
    ben = person("ben")
    pipeline(ben)
    (table, _) = made["big"].tasks[0].outputs or ()
    assert isinstance(table, Stored)
    assert table.blob is not None
    folder = ben.folder / "cache" / "blobs" / table.blob[3:5]
    folder.write_text("where a folder should be")

    run = ben.session.start(["total"])

    assert run.wait(PATIENCE_S)
    assert counts(run) == {"cached": 2, "completed": 2, "failed": 2}
    assert "cannot keep the blob" in run.failures[0].error
    assert run.failures[1].error == "an input is gone, and big[0] failed when it was made again"


def test_the_log_of_the_other_tells_of_results_that_came_from_elsewhere(person: Person) -> None:
    anna = person("anna")
    pipeline(anna)
    made = anna.run()
    sent(anna.session)
    ben = person("ben")
    pipeline(ben)
    run = ben.run()
    sent(ben.session)

    rows = fetch(
        ben.session.cache,
        "SELECT process, status, realtime > 0, cached_from_run FROM tasks WHERE run = ?",
        [run.id],
    )

    assert len(rows) == 7
    assert {row[1] for row in rows} == {"CACHED"}
    assert {row[2] for row in rows} == {True}
    assert {row[3] for row in rows} <= {made.id, made.name}


def test_what_came_once_is_found_without_the_shared_cache(person: Person) -> None:
    anna = person("anna")
    pipeline(anna)
    made = anna.run()
    sent(anna.session)
    ben = person("ben")
    pipeline(ben)
    run = ben.run()
    assert len(ben.session.read(ben.names["big"])) == 3
    list(ben.session.read(ben.names["big"]))  # now the values are here, too
    list(ben.session.read(ben.names["report"]))
    ben.session.unshare()

    again = ben.run()

    assert ben.ran() == []
    cache = ben.session.cache
    assert {each.name for each in usage(cache).runs} == {made.name, run.name, again.name}
    assert f"that of run {made.name}" in why(cache, ["report"]).head


def test_an_edited_process_runs_on_fetched_inputs(person: Person) -> None:
    anna = person("anna")
    pipeline(anna)
    anna.run()
    sent(anna.session)
    ben = person("ben")
    pipeline(ben)
    ben.cell(f"%%process total(table) from big\n{ben.mark('int(table[0])')}\nint(table.sum()) + 1")

    run = ben.run("total")

    assert ben.ran() == ["1", "2", "3"]
    assert list(ben.session.read(ben.names["total"])) == [100_001, 200_001, 300_001]
    assert run.failures == []


def test_the_cache_of_one_machine_is_used_behind_another_and_takes_nothing(person: Person) -> None:
    anna, bert = person("anna"), person("bert")
    pipeline(anna)
    pipeline(bert)
    anna.run()
    anna.session.performer.leave()  # her workers have ended, and nobody folds beside us
    log, place = anna.session.cache.log, anna.session.place
    log.rotate()
    log.fold()

    with pytest.raises(CacheFormatError, match="takes nothing from others"):
        bert.session.share(str(place))
    bert.session.share(str(place), read_only=True)
    run = bert.run()

    assert run.counts() == {"cached": 7}
    assert [path.read_text() for path in run["report"]] == ["[100000, 200000, 300000]"]
    assert len(run["big"][2].table) == 100_000
    bert.cell("%%process more(size) -> n from big\nn = size + 1")
    assert bert.run().counts() == {"cached": 9, "completed": 1}  # of equal sizes
    log.refresh(relist=True)
    assert list(log.attempts(process="more")) == []
    assert {len(each.name) for each in (place / "blobs").iterdir()} == {2}  # no weeks


def test_a_folder_comes_with_all_its_files(person: Person) -> None:
    cells = (
        "%%process make(n) -> folder: path from of(1)\nimport os\nos.makedirs('folder/deep')\n"
        "open('folder/deep/a', 'w').write('x' * 10_000)\nopen('folder/b', 'w').write('b')",
        "%%process read(folder: path) from make\n"
        "len((folder / 'deep' / 'a').read_text()) + len((folder / 'b').read_text())",
    )
    anna = person("anna")
    anna.cell(cells[0])
    anna.run()
    sent(anna.session)
    ben = person("ben")
    ben.cells(cells)

    run = ben.run()

    assert counts(run) == {"cached": 1, "completed": 1}
    assert ben.session.read(ben.names["read"]).value == 10_001


def test_a_file_that_can_be_executed_comes_as_one(person: Person) -> None:
    tool = (
        "%channel one = of(1)",
        "%%process tool(n) -> t: path = 'tool' from one --bash\n"
        "printf '#!/bin/sh\\necho of $1' > tool; chmod +x tool",
    )
    anna = person("anna")
    anna.cells(tool)
    anna.run()
    sent(anna.session)
    ben = person("ben")
    ben.cells(tool)
    ben.cell('%%process call(t) -> said from tool --bash\nsaid=$("./$t" ben)')

    run = ben.run()

    assert not run.failures, run.failures
    assert run.counts() == {"cached": 1, "completed": 1}
    assert run["call"].value == "of ben"


@pytest.mark.parametrize("read", ["value", "make"])
def test_all_that_is_gone_there_when_some_is_read_is_made_again_by_the_next_process_that_runs(
    person: Person, tmp_path: Path, read: str
) -> None:
    cells = (
        "%%process value(n) -> out from of(1, 2)\nout = b'v' * (10_000 + n)",
        "%%process make(n) -> folder: path from of(1, 2)\nimport os\nos.makedirs('folder')\n"
        "open('folder/a', 'w').write('x' * (20_000 + n))",
    )
    anna = person("anna")
    anna.cells(cells)
    anna.run()
    sent(anna.session)
    ben = person("ben")
    ben.cells(cells)
    assert counts(ben.run()) == {"cached": 4}
    sent(ben.session)
    assert verify(ben.session.cache, shared=True).ok, "nothing has been fetched: nothing is wrong"
    assert not verify(ben.session.cache).ok, "where nothing stands behind it, nothing will come"
    for blob in [*(tmp_path / "team" / "blobs").rglob("*")]:
        if blob.is_file() and blob.stat().st_size >= 10_000:
            blob.unlink()

    with pytest.raises(ResultGone, match=f"nor in the shared one .*{tmp_path / 'team'}"):
        list(ben.names[read])
    ben.session.close()  # as a shell's run ends, which is begun again then

    run = ben.run()
    assert list(map(len, run["value"])) == [10_001, 10_002]
    assert [(folder / "a").stat().st_size for folder in run["make"]] == [20_001, 20_002]
    assert counts(run) == {"completed": 4}


def test_a_blob_that_is_gone_there_is_made_again(person: Person, tmp_path: Path) -> None:
    anna = person("anna")
    pipeline(anna)
    anna.run()
    sent(anna.session)
    gone = max((tmp_path / "team" / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
    gone.unlink()
    ben = person("ben")
    pipeline(ben)
    ben.cell("%%process first(table) from big\nint(table[0])")

    run = ben.run("first")

    assert len(ben.ran()) == 1
    assert list(ben.session.read(ben.names["first"])) == [1, 2, 3]
    assert run.failures == []


def test_a_blob_with_other_bytes_is_refused_and_named(person: Person, tmp_path: Path) -> None:
    anna = person("anna")
    pipeline(anna)
    anna.run()
    sent(anna.session)
    flipped = max((tmp_path / "team" / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
    flipped.chmod(0o644)
    data = bytearray(flipped.read_bytes())
    data[-1] ^= 1
    flipped.write_bytes(data)
    ben = person("ben")
    pipeline(ben)
    ben.cell("%%process first(table) from big\nint(table[0])")

    run = ben.run("first")

    assert len(ben.ran()) == 1
    assert list(ben.session.read(ben.names["first"])) == [1, 2, 3]
    assert [note for note in run.notes if flipped.name in note]
    sent(ben.session)
    assert flipped.read_bytes() != data, "it is whole again"
    flipped.chmod(0o644)
    flipped.write_bytes(data)
    carl = person("carl")
    pipeline(carl)
    carl.run("big")
    with pytest.raises(ResultGone):
        list(carl.session.read(carl.names["big"]))
    carl.session.close()  # as a shell's run ends, which is begun again then

    assert [len(table) for table, _ in carl.run("big")["big"]] == [100_000] * 3
    assert len(carl.ran()) == 1, "the one that is damaged there"


def test_a_shared_cache_that_is_gone_is_told_of_once_and_stops_nobody(
    person: Person, tmp_path: Path
) -> None:
    anna = person("anna")
    pipeline(anna)
    said: list[str] = []
    anna.session.teller = said.append
    (tmp_path / "team").rename(tmp_path / "away")

    run = anna.run()
    sent(anna.session)
    anna.run()
    sent(anna.session)

    assert counts(run) == {"completed": 7}
    assert len([each for each in (*said, *run.notes) if "shared cache" in each]) == 1
    anna.session.share(str(tmp_path / "team"))  # as the first cell of her notebook says
    assert "the folder is not there" in said[-1]
    with pytest.raises(RemoteStoreError, match="the folder is not there"):
        anna.session.share(str(tmp_path / "team"), claim="never")
    again = verbs.parse_argv(["share", str(tmp_path / "team")])
    assert not share_in_shell(again, anna.session.place).good
    (tmp_path / "team").mkdir()  # the place at which a disk is mounted else
    anna.session.share(str(tmp_path / "team"))
    assert "the cache that was there is gone" in said[-1]
    anna.run()
    sent(anna.session)
    assert not any((tmp_path / "team").iterdir()), "what is not mounted is no place for results"
    (tmp_path / "team").rmdir()
    (tmp_path / "away").rename(tmp_path / "team")
    anna.run()
    sent(anna.session)
    ben = person("ben")
    pipeline(ben)
    ben.run()
    assert ben.ran() == [], "what could not be sent then was sent later"


def test_a_reader_sends_nothing(person: Person, tmp_path: Path) -> None:
    person("anna")
    (tmp_path / "ben").mkdir()
    ben = Notebook(tmp_path / "ben")
    ben.trace = tmp_path / "trace.log"
    ben.session.share(str(tmp_path / "team"), read_only=True)
    pipeline(ben)

    ben.run()
    sent(ben.session)

    assert [path.name for path in (tmp_path / "team").rglob("*") if path.is_file()] == [
        "nbcache.json"
    ]
    ben.close()


def test_a_result_that_a_clean_up_took_here_comes_back(person: Person) -> None:
    anna = person("anna")
    pipeline(anna)
    anna.run()
    sent(anna.session)
    clean(anna.session.cache, Selection(processes=frozenset({"big", "total"})), force=True)

    anna.run()

    assert anna.ran() == []
    assert [int(table[0]) for table, _ in anna.session.read(anna.names["big"])] == [1, 2, 3]


def test_what_was_made_before_sharing_goes_when_it_is_pushed_whatever_the_clock_says(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "anna").mkdir()
    (tmp_path / "team").mkdir()
    anna = Notebook(tmp_path / "anna")
    anna.trace = tmp_path / "trace.log"
    make_key()
    pipeline(anna)
    anna.run()
    with monkeypatch.context() as ahead:  # the clock is a day ahead, and is set right afterwards
        ahead.setattr(time, "time_ns", lambda now=time.time_ns: now() + 86_400 * 10**9)
        tier = anna.session.share(str(tmp_path / "team"))
    assert tier is not None

    anna.cell("%%process late() -> out\nout = 1")
    anna.run("late")
    sent(anna.session)
    by_itself = {row.process for row in tier.shared.log.attempts()}
    anna.session.cache.log.rotate()
    anna.session.cache.log.fold()
    anna.session.cache.log.compact()  # what was made before and after lies in one segment
    anna.cell("%%process later() -> out\nout = 2")
    anna.run("later")
    sent(anna.session)
    after_merging = {row.process for row in tier.shared.log.attempts()}
    first, second = tier.push(None), tier.push(None)

    assert by_itself == {"late"}
    assert after_merging == {"late", "later"}
    assert first.rows > 7
    assert second.rows == 0
    ben = person("ben")
    pipeline(ben)
    ben.run()
    assert ben.ran() == []
    anna.close()


@pytest.mark.parametrize("folded", [False, True])
def test_a_run_of_before_sharing_is_not_sent_though_its_id_is_of_a_clock_that_was_ahead(
    tmp_path: Path, folded: bool
) -> None:
    """Such ids come of a run that a fast clock began: those after it sort behind it."""
    (tmp_path / "team").mkdir()
    since = time.time_ns() // 1000
    runs = [make_ulid(since // 1000 + shift, bytes(10)) for shift in (-1000, 3_600_000)]
    with Cache.open(tmp_path / "cache") as cache:
        for at, run in ((since - 1, runs[1]), (since + 1, runs[0])):
            cache.log.append([attempt(run, run=run, at=at, outputs=())])
        if folded:
            cache.log.rotate()
            cache.log.fold()
        tier = Tier.open(cache, Sharing(str(tmp_path / "team"), is_new=True), print)

        tier.sender.note_before(since)

        assert [row["run"] for row in tier.sender.waiting(since)] == [runs[0]]
        tier.close()


def test_what_is_pulled_is_here_without_the_shared_cache(person: Person, tmp_path: Path) -> None:
    anna = person("anna")
    pipeline(anna)
    run = anna.run()
    sent(anna.session)
    ben = person("ben")
    pipeline(ben)
    tier = ben.session.tier()
    assert tier is not None

    done = tier.pull(run.name)
    (tmp_path / "team").rename(tmp_path / "away")
    ben.run()

    assert done.results == 7
    assert done.gone == 0
    assert ben.ran() == []
    assert [int(table[0]) for table, _ in ben.session.read(ben.names["big"])] == [1, 2, 3]


@pytest.mark.parametrize(
    ("told", "text"),
    [("at once", "words"), ("when the store takes it", "words"), ("when it is shared", "")],
)
def test_a_remote_file_is_read_once_for_all(
    person: Person, tmp_path: Path, told: str, text: str
) -> None:
    team = tmp_path / "team"
    with serving() as web:
        url = web.put("big,book.txt", text, '"v1"')
        cells = (
            f"%channel source = value(path({url!r}))",
            "%%process words(f: path) from source\nlen(f.read_text().split())",
        )
        anna = person("anna")
        anna.cells(cells)
        if told == "when the store takes it":
            (team / "filestate").write_text("where a folder should be")
        elif told == "when it is shared":
            anna.session.unshare()
        anna.run()
        if told == "when it is shared":
            anna.session.share(str(team))
        elif told == "when the store takes it":
            sent(anna.session)
            (team / "filestate").unlink()
        anna.run()
        sent(anna.session)
        assert web.downloads() == ["big,book.txt"]
        (note,) = [each.stat().st_ino for each in (team / "filestate").glob("*/*")]
        ben = person("ben")
        ben.cells(cells)

        run = ben.run()

        assert counts(run) == {"cached": 1}
        assert web.downloads() == [], "somebody of the team has read it"
        sent(ben.session)
        (told_now,) = [each.stat().st_ino for each in (team / "filestate").glob("*/*")]
        assert told_now == note, "it was sent once"


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims of others are looked at often, and who holds one says often how far he is."""
    monkeypatch.setattr(leases, "BEAT_S", 0.3)
    monkeypatch.setattr(claiming, "POLL_S", 0.1)


@pytest.mark.usefixtures("watchful")
def test_what_two_start_at_once_runs_once(person: Person, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    cells = (
        "%channel numbers = of(1, 2)",
        "%%process slow(n) from numbers\nimport pathlib, time\n{mark}\n"
        f"while not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.05)\n"
        "' '.join([str(n)] * 5_000)",
    )
    anna, ben = person("anna"), person("ben")
    for each in (anna, ben):
        each.cells(cell.replace("{mark}", anna.mark("n")) for cell in cells)
    anna.trace.write_text("")
    first = anna.session.start([])
    wait_until(lambda: sorted(anna.trace.read_text().split()) == ["1", "2"])
    ben.cell("%channel numbers = of(1, 2, 3)")
    second = ben.session.start([], max_parallel=1)
    (wait,) = wait_until(lambda: second.progress().waits)
    assert "computes the same" in wait.who
    assert first.name in wait.who
    wait_until(lambda: second.progress().waits[0].progress.startswith("0 of 2 tasks done"))
    wait_until(lambda: "3" in anna.trace.read_text().split())  # who waits is in nobody's way

    gate.touch()

    assert first.wait(PATIENCE_S)
    assert second.wait(PATIENCE_S)
    assert anna.ran() == ["1", "2", "3"], "each ran once"
    assert counts(second) == {"cached": 2, "completed": 1}
    assert second.progress().waits == ()
    assert ["it is there" in note for note in second.notes] == [True]
    assert [text[:3] for text in second["slow"]] == ["1 1", "2 2", "3 3"]


@pytest.mark.usefixtures("watchful")
def test_the_claim_of_one_who_was_stopped_is_taken_over_and_her_late_result_does_no_harm(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after Ctrl-Z, or the sleep of a laptop. (test_leases and test_team_race kill.)"""
    monkeypatch.setattr(leases, "STALE_S", 5.0)  # many of her beats
    ben, carol = person("ben"), person("carol")
    gate = tmp_path / "gate"
    cells = (
        "%channel numbers = of(1)",
        f"%%process slow(n) from numbers\nimport pathlib, time\n{ben.mark('n')}\n"
        f"while not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.05)\nn + 1",
    )
    ben.trace.write_text("")
    anna = Mate(tmp_path / "anna", str(tmp_path / "team"), cells)
    try:
        anna.ask("start")
        wait_until(lambda: ben.ran() == ["1"])
        ben.cells(cells)
        run = ben.session.start([])
        wait_until(lambda: run.progress().waits)

        anna.stop()
        wait_until(lambda: ben.ran() == ["1", "1"], "somebody who takes over")
        gate.touch()
        assert run.wait(PATIENCE_S)
        sent(ben.session)
        anna.go_on()
        hers = anna.ask("end")
        anna.ask("settle")
        anna.leave()
    finally:
        anna.kill()

    assert run["slow"].value == 2
    assert ["taken over" in note for note in run.notes] == [True]
    assert (hers["outcomes"], hers["values"]) == ({"completed": 1}, {"slow": ["2"]})
    assert hers["notes"] == hers["failures"] == []
    carol.cells(cells)
    gate.unlink()  # a file that is there counts
    assert counts(carol.run()) == {"cached": 1}


def test_what_takes_long_or_nobody_knows_is_claimed_and_what_is_quick_is_not(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = person("anna")

    def claimed(name: str) -> int:
        anna.cells(
            ["%channel numbers = of(1, 2, 3)", f"%%process {name}(n) from numbers\n{name!r}"]
        )
        run = anna.session.start([name], max_parallel=1)
        assert run.wait(PATIENCE_S)
        sent(anna.session)
        return len(list((tmp_path / "team/claims").glob("*/*")))

    assert claimed("quick") == 1, "the first, of which nobody knows"
    monkeypatch.setattr(claiming, "WORTH_S", 0.0)
    assert claimed("long") == 1 + 3


def test_a_row_of_her_own_that_a_claim_gives_back_is_not_taken_in_again(
    person: Person, tmp_path: Path
) -> None:
    anna = person("anna")
    anna.session.share(str(tmp_path / "team"), claim="always")
    anna.cell("%%process big() -> out\nout = b'v' * 20_000")
    anna.run()
    sent(anna.session)
    for blob in tmp_path.glob("**/blobs/**/*"):
        if blob.is_file() and blob.stat().st_size == 20_000:
            blob.unlink()
    anna.run()
    with pytest.raises(ResultGone):
        _ = anna.session.read(anna.names["big"]).value

    assert counts(anna.run()) == {"completed": 1}

    assert verify(anna.session.cache).problems == []
    own = [row["id"] for row in anna.session.cache.log.records(("attempt",)) if "origin" not in row]
    assert len(own) == 2, "the one whose result is gone, and the one that has it again"


def waiting_cells(gate: Path) -> tuple[str, ...]:
    """Return cells of a process that ends once there is a file."""
    return (
        "%channel numbers = of(1)",
        f"%%process slow(n) from numbers\nimport pathlib, time\n"
        f"while not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.05)\nn + 1",
    )


@pytest.mark.usefixtures("watchful")
def test_a_retry_goes_on_under_its_own_claim_where_the_first_end_could_not_be_told(
    person: Person, tmp_path: Path
) -> None:
    anna = person("anna")
    anna.session.share(str(tmp_path / "team"), claim="always")
    anna.cell("%channel numbers = of(1)")
    anna.cell(
        "%%process p(n) -> out from numbers\n#| on_error: retry\n"
        "import pathlib\nif task.attempt == 1:\n"
        f"    (claim,) = pathlib.Path({str(tmp_path / 'team' / 'claims')!r}).glob('*/*/000001')\n"
        "    claim.with_name('000001.done').mkdir()  # nothing can be written there\n"
        "    raise ValueError('once')\nout = n"
    )

    run = anna.run()

    assert run["p"].value == 1


@pytest.mark.usefixtures("watchful")
def test_who_waits_goes_on_alone_where_the_shared_cache_is_gone(
    person: Person, tmp_path: Path
) -> None:
    gate, cells = tmp_path / "gate", waiting_cells(tmp_path / "gate")
    anna, ben = person("anna"), person("ben")
    anna.cells(cells)
    ben.cells(cells)
    first = anna.session.start([])
    wait_until(lambda: [*(tmp_path / "team" / "claims").rglob("000001")])  # and it is hers
    second = ben.session.start([])
    wait_until(lambda: second.progress().waits)

    (tmp_path / "team").rename(tmp_path / "elsewhere")

    wait_until(lambda: second.progress().total("running"))  # she has not come to an end
    gate.touch()
    assert second.wait(PATIENCE_S)
    assert first.wait(PATIENCE_S)
    assert second["slow"].value == 2


@pytest.mark.usefixtures("watchful")
def test_a_run_that_only_lets_others_end_shows_no_wait_of_those_it_gave_up(
    person: Person, tmp_path: Path
) -> None:
    gate, fails, cells = tmp_path / "gate", tmp_path / "fails", waiting_cells(tmp_path / "gate")
    anna, ben = person("anna"), person("ben")
    anna.cells(cells)
    first = anna.session.start([])
    wait_until(lambda: [*(tmp_path / "team" / "claims").rglob("000001")])  # and it is hers
    ben.cells(cells)
    waits = "import pathlib, time\nwhile not pathlib.Path({!r}).exists():\n    time.sleep(0.05)\n"
    ben.cells(
        [
            "%%process first(n) from numbers\nm = n",  # what waits has given up its room by then
            f"%%process long(m) from first\n{waits.format(str(gate))}m",
            f"%%process bad(m) from first\n#| on_error: finish\n{waits.format(str(fails))}1 / 0",
        ]
    )
    second = ben.session.start([], max_parallel=2)
    wait_until(lambda: second.progress().waits)

    fails.touch()

    wait_until(lambda: second.progress().total("failed"))
    wait_until(lambda: not second.progress().waits)
    assert not second.wait(0), "long goes on"
    gate.touch()
    assert second.wait(PATIENCE_S)
    assert first.wait(PATIENCE_S)


def test_a_shared_folder_is_found_from_any_other_folder(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = person("anna")
    anna.session.share("../team")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    sharing = sharing_of(anna.session.cache.root)

    assert sharing is not None
    assert sharing.url == str(tmp_path / "team")


def test_a_url_with_a_mistake_in_it_changes_nothing(person: Person, tmp_path: Path) -> None:
    anna = person("anna")
    cache, tier, place = anna.session.cache, anna.session.tier(), anna.session.place
    inside = tmp_path / "team" / "ours"
    inside.mkdir()

    with pytest.raises(NbcacheError):
        anna.session.use((tmp_path / "tean").as_uri(), retention="30d")
    with pytest.raises(CacheFormatError, match=f"lies inside the cache at {tmp_path}/team"):
        anna.session.use(inside.as_uri(), retention="30d")
    with pytest.raises(CacheFormatError, match="lies inside the cache"):
        anna.session.share(str(inside))

    assert (anna.session.cache, anna.session.tier()) == (cache, tier)
    assert (anna.session.place, anna.session.retention) == (place, "")
    assert not (anna.folder / ".nbcache").exists()
    assert list(inside.iterdir()) == []
    anna.session.use((tmp_path / "team").as_uri(), retention="30d")
    assert anna.session.place == anna.folder / ".nbcache"
    assert anna.session.tier() is not None


def test_who_joins_a_cache_that_lies_in_another_is_told(person: Person, tmp_path: Path) -> None:
    anna = person("anna")
    shutil.copytree(tmp_path / "team", tmp_path / "team" / "ours")  # made by who saw only that
    said: list[str] = []
    anna.session.teller = said.append

    anna.session.share(str(tmp_path / "team" / "ours"))

    assert [each for each in said if f"lies inside the cache at {tmp_path}/team:" in each]
    assert anna.session.tier() is not None


def test_a_notebook_runs_where_what_it_shares_is_damaged_since_and_nothing_new_is_made_there(
    person: Person, tmp_path: Path
) -> None:
    anna, header = person("anna"), tmp_path / "team" / "nbcache.json"
    said: list[str] = []
    anna.session.teller = said.append
    whole = header.read_bytes()
    header.write_bytes(whole[:-9])
    anna.session.use(str(anna.session.place))  # as a new kernel does

    assert anna.session.share(str(tmp_path / "team")) is None
    anna.cell("%%process one() -> n\nn = 1")
    assert counts(anna.run()) == {"completed": 1}

    assert [each for each in said if "nbcache.json is damaged" in each]
    assert header.read_bytes() == whole[:-9]
    with pytest.raises(CacheFormatError, match="is damaged"):
        person("ben")


def test_an_open_kernel_follows_what_a_shell_says_of_sharing(
    person: Person, tmp_path: Path
) -> None:
    anna = person("anna")
    said: list[str] = []
    anna.session.teller = said.append
    anna.cell("%channel numbers = of(1, 2)")
    anna.cell("%%process double(n) from numbers\n2 * n")
    place = anna.session.place

    def shell(words: str) -> None:
        parsed = verbs.parse_argv(words.split())
        if parsed.words:
            share_in_shell(parsed, place)
        else:
            with closing(Cache.open(place)) as cache:
                sharing_in_shell(parsed, cache)

    def rows_in(folder: str) -> int:
        return len(list((tmp_path / folder / "log").glob("*.rows.parquet")))

    shell("share --off")
    anna.run()
    assert anna.session.tier() is None
    (tmp_path / "other").mkdir()
    shell(f"share {tmp_path / 'other'}")
    anna.cell("%channel numbers = of(1, 2, 3)")
    anna.run()
    sent(anna.session)

    assert (rows_in("team"), rows_in("other")) == (0, 1)
    shell(f"share {tmp_path / 'other'} --read-only")
    tier = anna.session.tier()
    assert tier is not None
    assert tier.contact.read_only
    assert [each.partition(" is ")[2] for each in said if "another process" in each] == [
        f"{how}, as another process has said"
        for how in (
            "shared no more",
            f"shared with {tmp_path}/other",
            f"shared with {tmp_path}/other, read-only",
        )
    ]


def test_what_is_here_is_not_taken_in_again(person: Person, tmp_path: Path) -> None:
    anna = person("anna")
    pipeline(anna)
    anna.run()
    sent(anna.session)
    anna.close()
    again = Notebook(tmp_path / "anna")  # as a shell that has not looked at the log yet
    tier = again.session.tier()
    assert tier is not None

    tier.pull(None)

    report = verify(again.session.cache)
    assert report.ok, report
    again.close()


def test_a_word_of_trust_counts_for_nobody_else(person: Person) -> None:
    anna, ben = person("anna"), person("ben")
    for notebook, body in ((anna, "out = n + 1"), (ben, "out = (lambda m: m + 1)(n)")):
        notebook.cells(["%channel numbers = of(1, 2)"])
        notebook.cell(
            f"%%process work(n) -> out from numbers\n{notebook.mark(repr(body[6:9]))}\n{body}"
        )
    anna.run()
    mark = anna.mark(repr("(la"))
    anna.cell(f"%%process work(n) -> out from numbers\n{mark}\nout = (lambda m: m + 1)(n)")
    anna.session.trust(["work"], "the same in other words")
    assert anna.run().progress().trusted == 2
    sent(anna.session)

    run = ben.run()

    assert run.counts() == {"completed": 2}
    assert run.progress().trusted == 0


def test_of_remote_files_read_before_sharing_those_that_runs_use_are_told_behind_all_else_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def opened(url: str) -> FolderStore:
        return FolderStore(url, on_request=lambda doing, key: asked.append(f"{doing} {key}"))

    def told() -> list[str]:
        return [each for each in asked if " filestate/" in each]

    monkeypatch.setattr(tiers, "open_store", opened)
    make_key()
    (tmp_path / "team").mkdir()
    with Cache.open(tmp_path / "cache") as cache, serving() as web:
        files = [RemoteFile(web.put(f"{n}", f"{n}", f'"{n}"')) for n in range(40)]
        before, now, later = (RemoteFiles(cache) for _ in range(3))
        for file in [*files, RemoteFile(web.put("old", "old", '"old"'))]:
            before.fetch(file)
        tier = Tier.open(cache, Sharing(str(tmp_path / "team"), is_new=True), print)
        tier.run_began("R1")
        for file in files:
            now.digest(file, "deep")
        cache.log.append([attempt("first", outputs=())])
        asked.clear()

        tier.settle()

        beat = asked.index("put runs/R1")
        assert any(each.endswith(".keys.parquet") for each in asked[:beat])
        assert told() == asked[beat + 1 :]
        assert len(told()) == 16, "what one request's time is enough for"

        tier.run_ended("R1")
        wait_until(lambda: len(told()) == 40)
        assert len(set(told())) == 40
        for file in files:
            later.digest(file, "deep")
        tier.settle()
        assert len(told()) == 40
        tier.close()


def test_a_run_that_makes_rows_while_others_are_sent_does_not_flood_the_shared_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter(range(10))

    def make_another(doing: str, key: str) -> None:
        if key.endswith(".keys.parquet") and (number := next(made, None)) is not None:
            cache.log.append([attempt(f"{number}", outputs=())])

    def opened(url: str) -> FolderStore:
        return FolderStore(url, on_request=make_another)

    def segments() -> int:
        return len(list((tmp_path / "team/log").glob("*.keys.parquet")))

    monkeypatch.setattr(tiers, "open_store", opened)
    (tmp_path / "team").mkdir()
    with Cache.open(tmp_path / "cache") as cache:
        cache.log.append([attempt("first", outputs=())])
        tier = Tier.open(cache, Sharing(str(tmp_path / "team"), is_new=True), print)
        tier.run_began("R1")
        tier.settle()
        assert segments() == 1, "what was made meanwhile goes with the next sending"

        tier.run_ended("R1")
        assert tier.finish(PATIENCE_S)
        assert segments() == 3, "at the end what came in between goes, too, once"
        tier.close()
