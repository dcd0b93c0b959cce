"""A team over a cloud as a network has it: what it costs in requests, and what its faults do."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nbcache.engine.running.run import Run
from nbcache.engine.tier import Tier
from tests.engine.notebooks import Notebook
from tests.engine.teammate import Mate
from tests.servers.clouds import CLOUDS, REFUSALS, Cloud, kinds, not_deleted
from tests.servers.proxy import (
    FlipBit,
    ForgetCondition,
    Hang,
    LoseReply,
    Proxy,
    Refuse,
    Request,
    always,
)
from tests.waiting import PATIENCE_S, wait_until

TASKS = 200
FEW = "%channel numbers = from_iterable(range(20))"
Person = Callable[..., Notebook]
DENIED, EXPIRED, BUSY, GONE = (REFUSALS["s3"][why] for why in ("denied", "expired", "busy", "gone"))


@pytest.fixture(scope="module")
def clouds() -> Iterator[Callable[[str], Cloud]]:
    """Give a cloud by its name, started when it is first asked for."""
    started: dict[str, Cloud] = {}
    with ExitStack() as stack:

        def cloud(name: str) -> Cloud:
            if name not in started:
                started[name] = stack.enter_context(CLOUDS[name]())
            return started[name]

        yield cloud


@pytest.fixture
def cloud(clouds: Callable[[str], Cloud], request: pytest.FixtureRequest) -> Cloud:
    return clouds(getattr(request, "param", "s3"))


@pytest.fixture
def proxy(cloud: Cloud) -> Proxy:
    return cloud.proxy


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> Iterator[Person]:
    cloud.enter(monkeypatch)
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / "settings"))
    people: list[Notebook] = []

    def make(name: str) -> Notebook:
        (tmp_path / name).mkdir()
        notebook = Notebook(tmp_path / name)
        notebook.trace = tmp_path / "trace.log"
        notebook.said = []  # type: ignore[attr-defined]
        notebook.session.teller = notebook.said.append  # type: ignore[attr-defined]
        notebook.session.share(f"{cloud.bucket}/{tmp_path.name}")
        people.append(notebook)
        notebook.cell(f"%channel numbers = from_iterable(range({TASKS}))")
        notebook.cell(
            "%%process spell(n) from numbers\n"
            + notebook.mark("n")
            + "\n' '.join([str(n)] * 2_000)"
        )
        return notebook

    yield make
    for each in people:
        each.close()


def counts(run: Run) -> dict[str, int]:
    return dict(Counter(task.outcome.value for task in run.tasks.values()))


def tier_of(notebook: Notebook) -> Tier:
    tier = notebook.session.tier()
    assert tier is not None
    return tier


def settled(notebook: Notebook) -> None:
    assert tier_of(notebook).finish(PATIENCE_S)


def nothing(request: Request) -> None:
    return None


@pytest.mark.parametrize("cloud", CLOUDS, indirect=True)
def test_requests_are_few_and_a_hit_costs_none(person: Person, proxy: Proxy) -> None:
    anna = person("anna")
    with proxy.when(nothing):
        anna.run()
        settled(anna)
        sending = kinds(proxy.requests)
    assert len(anna.ran()) == TASKS
    assert sending["PUT blobs"] <= TASKS + 5, sending  # one each, and the texts of the code
    # The listing, the clock, a pair of files; claims of the first few, of which nobody knew then
    # how long they take.
    assert sum(sending.values()) - sending["PUT blobs"] <= 25, sending
    with proxy.when(nothing):
        ben = person("ben")
        opening = kinds(proxy.requests)
    with proxy.when(nothing):
        ben.run()
        settled(ben)
        hitting = kinds(proxy.requests)
    assert ben.ran() == []
    # Six, and what is tried once where a store is new: whether it lies in another, and has claims.
    assert sum(opening.values()) <= 10, opening
    with proxy.when(nothing):
        ben.session.share(tier_of(ben).sharing.url)
        again = kinds(proxy.requests)
    assert sum(again.values()) <= 4, again
    assert hitting["GET blobs"] == 0, "nobody has looked at a value"
    assert sum(hitting.values()) <= 12, hitting  # the keys and rows that came, and its own rows


def test_a_store_that_overlooks_the_condition_of_a_create_is_shared_without_claims(
    person: Person, proxy: Proxy
) -> None:
    with proxy.when(always(ForgetCondition())):
        anna = person("anna")
        run = anna.run()
        settled(anna)
        claims = [each.path for each in proxy.requests if "/claims/" in each.path]

    assert [each for each in anna.said if "has no claims" in each]  # type: ignore[attr-defined]
    assert claims == []
    assert run.failures == []
    ben = person("ben")
    ben.run()
    assert ben.ran() == []


WAYS_OUT = {
    "denied": "Renew the credentials",
    "expired": "Renew the credentials",
    "busy": "it is tried again later",
    "gone": "create the bucket",
}


@pytest.mark.parametrize("why", WAYS_OUT)
@pytest.mark.parametrize("cloud", CLOUDS, indirect=True)
def test_a_store_that_refuses_in_the_middle_of_a_run_costs_one_clear_line_and_no_result(
    person: Person, cloud: Cloud, why: str
) -> None:
    anna = person("anna")
    anna.cell(FEW)
    with cloud.proxy.when(always(cloud.refuses(why))):
        run = anna.run()
        settled(anna)
    notes = [*run.notes, *anna.said]  # type: ignore[attr-defined]

    assert len(anna.ran()) == 20
    assert run.failures == []
    assert len(notes) == 1, notes
    assert "shared cache: " in notes[0]
    assert WAYS_OUT[why] in notes[0]


@pytest.mark.parametrize("cloud", CLOUDS, indirect=True)
def test_who_may_only_read_has_all_that_is_there_and_is_told_once(
    person: Person, cloud: Cloud
) -> None:
    anna = person("anna")
    anna.cell(FEW)
    anna.run()
    settled(anna)

    def rule(request: Request) -> Refuse | None:
        return None if request.method in ("GET", "HEAD") else cloud.refuses("denied")

    with cloud.proxy.when(rule):
        ben = person("ben")
        ben.cell(FEW)
        ben.cell("%%process last(text) from spell.first()\nlen(text)")
        runs = [ben.run(), ben.run()]
        settled(ben)
    notes = [*runs[0].notes, *runs[1].notes, *ben.said]  # type: ignore[attr-defined]
    with cloud.proxy.when(nothing):
        ben.session.share(tier_of(ben).sharing.url, read_only=True)
        ben.cell("%%process own()\n5")
        ben.run()
        settled(ben)

        assert {each.method for each in cloud.proxy.requests} <= {"GET", "HEAD"}

    assert ben.ran() == []
    assert [run.counts() for run in runs] == [
        {"cached": 20, "completed": 1},
        {"cached": 21},
    ]
    assert len(notes) == 1, notes
    assert "to read only: `%nbcache share URL --read-only`" in notes[0]


def test_a_heartbeat_that_finds_the_bucket_gone_says_so_as_the_kernel_does(
    person: Person, proxy: Proxy
) -> None:
    anna = person("anna")
    seen: list[str] = []

    def gone_from_the_second_beat_on(request: Request) -> Refuse | None:
        if request.method == "PUT" and "/runs/" in request.path:
            seen.append(request.path)
        return GONE if len(seen) > 1 else None

    with proxy.when(gone_from_the_second_beat_on):
        run = anna.run()
        settled(anna)
    notes = [each for each in (*run.notes, *anna.said) if "shared cache" in each]  # type: ignore[attr-defined]

    assert len(anna.ran()) == TASKS
    assert len(notes) == 1, notes
    assert notes[0].count("cannot") == 1, notes
    assert "create the bucket" in notes[0]


@pytest.mark.parametrize("fault", [BUSY, DENIED], ids=["busy", "denied"])
def test_a_store_that_refuses_when_it_is_shared_first_gets_later_what_was_made_since(
    person: Person, cloud: Cloud, fault: Refuse, tmp_path: Path
) -> None:
    early, late = (
        f"%%process {name}()\nlist(range({n}))" for name, n in (("early", 3), ("late", 4))
    )
    anna = Notebook(tmp_path)
    said: list[str] = []
    anna.session.teller = said.append
    anna.cell(early)
    anna.run()
    with cloud.proxy.when(always(fault)):
        anna.session.share(f"{cloud.bucket}/{tmp_path.name}")
        anna.cell(late)
        run = anna.run("late")
    anna.close()
    again = Notebook(tmp_path)  # her next kernel
    again.cell(late)
    again.run()
    settled(again)
    again.close()

    assert counts(run) == {"completed": 1}
    assert ["shared cache" in each for each in (*run.notes, *said)] == [True], said
    ben = person("ben")
    ben.cells([early, late])
    assert counts(ben.run("early", "late")) == {"cached": 1, "completed": 1}, "nothing of before"


def test_what_a_store_refused_in_the_middle_of_a_run_is_sent_once_credentials_are_new(
    person: Person, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    profile = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    for limit in ("contact.DENIED_S", "cloud.RENEW_S"):
        monkeypatch.setattr(f"nbcache.store.remote.{limit}", 0.0)
    valid = "old"

    def write(key: str) -> None:
        profile.write_text(
            f"[default]\naws_access_key_id={key}\naws_secret_access_key=of-nothing\n"
        )

    def rule(request: Request) -> Refuse | None:
        return None if f"Credential={valid}/" in request.who else EXPIRED

    write("old")
    with proxy.when(rule):
        anna = person("anna")
        anna.cell("%%process last(texts) from spell.collect()\nlen(texts)")
        first = anna.run("spell")
        valid = "new"
        run = anna.run()
        settled(anna)
        refused = [*first.notes, *run.notes, *anna.said]  # type: ignore[attr-defined]
        write("new")

        anna.session.tier().send_soon()  # type: ignore[union-attr]
        settled(anna)

        ben = person("ben")
        ben.cell("%%process last(texts) from spell.collect()\nlen(texts)")
        hit = ben.run()
    assert run["last"].value == TASKS
    assert ["has expired" in each for each in refused] == [True], refused
    assert "takes results again" in anna.said[-1]  # type: ignore[attr-defined]
    assert ben.ran() == []
    assert hit.counts() == {"cached": TASKS + 1}


def test_who_reads_waits_where_a_store_is_busy_and_fetches_again_what_came_damaged(
    person: Person, proxy: Proxy
) -> None:
    anna = person("anna")
    anna.run()
    settled(anna)
    ben = person("ben")
    busy, damaged = iter(range(5)), iter(range(1))  # busier than a client has patience

    def rule(request: Request) -> Refuse | FlipBit | None:
        if request.method == "GET" and "/blobs/" in request.path and next(busy, None) is not None:
            return BUSY
        if request.method == "GET" and ".rows." in request.path and next(damaged, None) is not None:
            return FlipBit()
        return None

    with proxy.when(rule):
        run = ben.run()
        settled(ben)
        assert next(damaged, None) is None
        assert run["spell"][TASKS - 1].split()[0] == str(TASKS - 1)  # large enough for a blob
        assert next(busy, None) is None
    ben.run()
    settled(ben)

    assert ben.ran() == []
    ben.session.unshare()
    assert ben.run().counts()["cached"] >= 1, "what came once is here"


def test_large_inputs_come_in_ranges_are_shown_and_can_be_cancelled(
    person: Person, proxy: Proxy
) -> None:
    make = (
        "%%process make(n) -> big: path from of(1)\nimport os\n"
        "with open('big', 'wb') as file:\n    file.write(os.urandom(1 << 20) * 40)"
    )
    anna = person("anna")
    anna.cell(make)
    anna.run("make")
    settled(anna)
    ben = person("ben")
    ben.cells([make, "%%process read(big: path) from make\nbig.stat().st_size"])
    gate = threading.Event()
    ranges = iter(range(1000))

    def rule(request: Request) -> None:
        if request.method == "GET" and "/blobs/" in request.path and next(ranges) >= 3:
            gate.wait(PATIENCE_S)

    with proxy.when(rule):
        run = ben.session.start(["read"])
        (wait,) = wait_until(lambda: run.progress().waits)
        wait_until(lambda: int(run.progress().waits[0].progress.split()[0]) >= 8)
        assert "shared cache" in wait.who
        wait_until(lambda: [each.method for each in proxy.requests].count("GET") >= 5)
        run.cancel()
        gate.set()
        assert run.wait(PATIENCE_S)
    assert run.status.value == "cancelled"
    assert run.progress().waits == ()

    again = ben.run("read")

    assert again["read"].value == 40 << 20


def test_what_was_not_sent_when_a_process_was_killed_goes_with_the_next(
    cloud: Cloud, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.enter(monkeypatch)
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / "settings"))
    url = f"{cloud.bucket}/killed"
    cells = (
        "%channel numbers = of(1, 2)",
        "%%process spell(n) -> text: path from numbers\nopen('text', 'w').write(str(n) * 9_000)",
    )

    def rule(request: Request) -> Hang | None:
        """Let blobs and rows come, and not the keys, which make them count."""
        return Hang() if request.method == "PUT" and ".keys." in request.path else None

    anna = Mate(tmp_path / "anna", url, cells)
    with proxy.when(rule):
        anna.ask("start")
        assert proxy.hanging.wait(PATIENCE_S)
        anna.kill()

    anna = Mate(tmp_path / "anna", url, cells)
    first, second = anna.ask("push"), anna.ask("push")
    anna.leave()
    ben = Mate(tmp_path / "ben", url, cells)
    hers, came = ben.ask("run"), ben.ask("pull")
    ben.leave()

    assert first["rows"] > 2
    assert first["left"] == second["rows"] == 0
    assert hers["outcomes"] == {"cached": 2}
    assert hers["notes"] == []
    assert came["gone"] == 0


def test_who_may_write_and_not_delete_shares_all_the_same(person: Person, proxy: Proxy) -> None:
    def rule(request: Request) -> Refuse | None:
        is_delete = request.method == "DELETE" or "?delete" in request.path
        return not_deleted(request) if is_delete else None

    with proxy.when(rule):
        anna = person("anna")
        run = anna.run()
        settled(anna)
    ben = person("ben")
    ben.run()

    assert run.notes == []
    assert anna.said == []  # type: ignore[attr-defined]
    assert ben.ran() == []


def test_a_lost_reply_sends_nothing_wrong(person: Person, proxy: Proxy) -> None:
    anna = person("anna")
    with proxy.when(lambda request: LoseReply() if request.number % 7 == 3 else None):
        anna.run()
        settled(anna)
    settled(anna)
    anna.run()
    settled(anna)
    ben = person("ben")

    ben.run()

    assert ben.ran() == []
    assert len(list(ben.session.read(ben.names["spell"]))) == TASKS
