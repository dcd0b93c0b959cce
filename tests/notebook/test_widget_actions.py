"""What the buttons of a view do, and what two runs compared look like to a page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nbcache.errors import RunError, UsageError
from nbcache.notebook.widget.source import LiveRun, StoredRun
from tests.engine.notebooks import Notebook
from tests.notebook.desks import Desk, text_of
from tests.waiting import PATIENCE_S, wait_until

CELLS = [
    "%channel grid = product(depth=[8, 4, 2], rep=[0, 1])",
    "limit = 8",
    "%%process fit from grid\nscore = depth * rep",
    "%%process check from fit\nassert score != limit, 'no'\nok = score > 3",
]


def test_a_failed_run_offers_a_resume_and_a_good_one_a_new_run(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    failed = Desk(notebook, LiveRun(notebook.run()))
    assert failed.why_not() == {
        "cancel": "this run has ended", "resume": "", "run": "", "form": "",
    }  # fmt: skip

    notebook.cell("limit = 99")
    good = Desk(notebook, LiveRun(notebook.run()))
    assert good.why_not()["resume"] == "this run has succeeded: nothing is left to resume"


def test_resume_goes_on_with_the_run_and_runs_what_had_failed(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    failed = notebook.run()
    desk = Desk(notebook, LiveRun(failed))
    notebook.cell("%%process check from fit\nok = score > 3")

    said = desk.ask("resume")["said"]
    run = desk.followed[-1]
    assert run.wait(PATIENCE_S)

    assert run.id == failed.id
    assert "the code of check changed" in said
    assert [each.counts.get("completed", 0) for each in run.progress().places] == [0, 4]
    assert desk.view.source.id == failed.id


def test_run_again_is_a_new_run_of_the_same_targets(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    desk = Desk(notebook, LiveRun(notebook.run("fit")))

    run = desk.press("run")

    assert run.targets == ("fit",)
    assert run.counts() == {"cached": 6}


def test_a_press_that_is_repeated_while_the_kernel_is_slow_begins_one_run(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.cells(CELLS)
    desk = Desk(notebook, LiveRun(notebook.run("fit")))
    replies: list[object] = []
    monkeypatch.setattr(desk.view, "_reply", lambda _, found: replies.append(found))
    press = {"ask": "run", "page": "nb-1", "id": 7, "once": True}

    for _ in range(2):
        desk.view.heard(press)
    wait_until(lambda: len(replies) == 1, "the answer")
    assert desk.followed[0].wait(PATIENCE_S)
    desk.view.heard(press)
    wait_until(lambda: len(replies) == 2, "the same answer")

    assert replies[0] == replies[1]
    assert [run.counts() for run in desk.followed] == [{"cached": 6}]


def test_a_run_of_the_log_can_be_resumed_and_run_again(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    failed = notebook.run()
    desk = Desk(notebook, StoredRun(notebook.session.cache, failed.id))
    assert desk.why_not()["resume"] == ""

    run = desk.press("resume")

    assert run.id == failed.id
    with pytest.raises(RunError, match="is not going"):
        Desk(notebook, StoredRun(notebook.session.cache, failed.id)).ask("cancel")


def test_a_run_whose_folder_was_deleted_says_so_and_can_be_run_again(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    failed = notebook.run()
    desk = Desk(notebook, LiveRun(failed))
    shutil.rmtree(notebook.session.cache.root)

    for ask in ("resume", "relaunch", "form", "plan"):
        with pytest.raises(UsageError, match=f"knows no more of run {failed.name}: was it deleted"):
            desk.ask(ask)
    with pytest.raises(
        RunError, match=r"no runs yet, or its folder was deleted\n.* run begins one"
    ):
        notebook.session.resume(failed.name)
    run = desk.press("run")

    assert run.counts() == failed.counts()


def test_while_a_run_goes_only_cancel_makes_sense(notebook: Notebook, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    notebook.cells(
        [
            "%channel one = of(1)",
            f"%%process slow(n) from one\nimport pathlib, time\n"
            f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(.01)\nout = n",
        ]
    )
    run = notebook.session.start()
    desk = Desk(notebook, LiveRun(run))

    why_not = desk.why_not()
    assert why_not["cancel"] == ""
    assert why_not["resume"] == why_not["run"] == why_not["form"] == f"run {run.name} is going"
    with pytest.raises(UsageError, match="is going"):
        desk.ask("relaunch")
    assert "what has finished is kept" in desk.ask("cancel")["said"]
    assert run.wait(PATIENCE_S)
    assert run.status.value == "cancelled"
    with pytest.raises(UsageError, match="ended already"):
        desk.ask("cancel")


def test_the_form_has_the_plain_variables_that_processes_read_and_plans_with_them(
    notebook: Notebook,
) -> None:
    notebook.cells(CELLS)
    desk = Desk(notebook, LiveRun(notebook.run()))

    form = desk.ask("form")
    assert form["fields"] == [{"name": "limit", "text": "8", "kind": "int"}]
    assert form["processes"] == ["fit", "check"]
    before = {each["name"]: each["to_run"] for each in desk.ask("plan")}
    after = {each["name"]: each["to_run"] for each in desk.ask("plan", parameters={"limit": "7"})}
    assert before == {"fit": 0, "check": 1}
    assert after == {"fit": 0, "check": 4}  # one per score: equal tasks run once
    assert notebook.names["limit"] == 8
    assert desk.quiet == 1  # only what sets a name waits until no cell runs


def test_the_form_has_a_control_that_holds_each_plain_value_exactly(notebook: Notebook) -> None:
    values = {
        "yes": "True", "rate": "0.5", "word": "'it\\'s'", "none": "None", "sizes": "[1, 'b']",
        "lines": "'a\\nb'", "endless": "float('inf')", "when": "date(1, 2, 3)", "many": "[0] * 21",
        "open": "[float('inf')]", "gone": "1",
    }  # fmt: skip
    notebook.cell("from datetime import date")
    notebook.cell("\n".join(f"{name} = {text}" for name, text in values.items()))
    notebook.cell(f"%%process all_of_them()\n[{', '.join(values)}]")
    desk = Desk(notebook, LiveRun(notebook.run()))
    del notebook.names["gone"]  # as in a new kernel

    fields = {each["name"]: (each["kind"], each["text"]) for each in desk.ask("form")["fields"]}

    assert fields == {
        "yes": ("bool", "True"), "rate": ("float", "0.5"), "word": ("str", '"it\'s"'),
        "none": ("other", "None"), "sizes": ("other", "[1, 'b']"), "lines": ("other", r"'a\nb'"),
        "endless": ("other", "inf"),
    }  # fmt: skip


def test_relaunch_takes_the_parameters_that_were_changed(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    first = notebook.run()
    desk = Desk(notebook, LiveRun(first))

    run = desk.press("relaunch", parameters={"limit": "7"})

    assert run.id != first.id
    assert run.status.value == "succeeded"
    assert desk.ask("form")["fields"] == [{"name": "limit", "text": "7", "kind": "int"}]
    assert notebook.names["limit"] == 8
    with pytest.raises(UsageError, match=r"limit: \[1, b is no Python literal"):
        desk.ask("plan", parameters={"limit": "[1, b"})


def test_run_from_here_runs_a_process_and_all_below_it_again(notebook: Notebook) -> None:
    notebook.cells(["limit = 99", *CELLS[:1], *CELLS[2:]])
    desk = Desk(notebook, LiveRun(notebook.run()))

    run = desk.press("relaunch", **{"from": "check"})

    counts = {each.name: dict(each.counts) for each in run.progress().places}
    assert counts["fit"] == {"cached": 6}
    assert counts["check"]["completed"] == 4


def test_runs_come_newest_first_in_pages_and_are_found_by_what_they_say(
    notebook: Notebook,
) -> None:
    notebook.cells(CELLS[:1] + CELLS[2:3])
    names = [notebook.run().name for _ in range(3)][::-1]
    last = notebook.session.last_run
    assert last is not None
    desk = Desk(notebook, LiveRun(last))

    page = desk.ask("runs", limit=2)
    assert [row["name"] for row in page["rows"]] == names[:2]
    assert (page["matched"], page["total"]) == (3, 3)
    assert [row["name"] for row in desk.ask("runs", text=names[2])["rows"]] == [names[2]]
    assert desk.ask("runs", text="nothing like it")["rows"] == []

    desk.ask("open", run=desk.ask("runs", offset=2)["rows"][0]["run"])
    assert desk.view.source.progress().name == names[2]


def test_two_runs_show_what_ran_again_what_made_it_so_and_what_came_out(
    notebook: Notebook,
) -> None:
    helper = "def norm(x):\n    return {}\na = b = c = {}"
    body = "score = norm(depth * rep) + 0 * (a + b + c)"
    notebook.cells([CELLS[0], helper.format("x", 1), f"%%process fit from grid\n{body}"])
    first = notebook.run()
    notebook.cell(helper.format("x + 1", 2))
    second = notebook.run()
    desk = Desk(notebook, LiveRun(second))

    told = desk.ask("diff", before=first.id, after=second.id)
    text = text_of(told["page"])
    assert "6 of 6 ran again · 6 came out different" in text
    assert "helper norm changed" in text
    assert "+    return x + 1" in text
    line = ["li", "value", {}, ["captured   a                    1 → 2"]]  # its columns stay
    assert json.dumps(line) in json.dumps(told["page"])
    assert (told["differ"], told["data"]) == (True, False)

    compared = desk.ask("diff", before=first.id, after=second.id, data=True)
    assert "depth=8 rep=1score8 → 9" in text_of(compared["page"])

    notebook.cell("%%process other from grid\nodd = depth")
    two = {"before": first.id, "after": notebook.run().id, "data": True, "process": "fit"}
    narrowed = text_of(desk.ask("diff", **two, limit="2")["page"])
    assert "other" not in narrowed
    assert "… and 4 more tasks" in narrowed


def test_tasks_that_are_called_alike_are_named_once_in_a_comparison(notebook: Notebook) -> None:
    notebook.cells([*CELLS[:3], "%%process check from fit\nassert score\nok = score"])
    before = notebook.run()
    notebook.cell("%%process check from fit\nok = score")
    after = notebook.run()

    told = Desk(notebook, LiveRun(after)).ask("diff", before=before.id, after=after.id)

    assert "Failed before, succeeded now: 3 tasks: score=0 ×3" in text_of(told["page"])


def test_a_view_that_was_turned_to_another_run_hears_no_more_of_the_first(
    notebook: Notebook,
) -> None:
    notebook.cells(CELLS)
    other = notebook.run("fit")
    first = notebook.run()
    desk = Desk(notebook, LiveRun(first))

    desk.ask("open", run=other.id)
    desk.view.update(first.progress())

    whole = desk.view.whole()
    assert whole["head"]["name"] == other.name  # type: ignore[index]
    assert len(whole["counts"]) == 1  # type: ignore[arg-type]
    assert "check" in desk.view.painter(LiveRun(first))(first.progress()).text
