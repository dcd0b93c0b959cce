"""Two runs compared, over real sessions: tasks paired, reasons told, results and data compared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcache.engine.record.compare import diff_runs
from nbcache.engine.record.run_diff import ProcessDiff, RunDiff
from nbcache.errors import RunError, UsageError
from nbcache.model.digest import identity_digest
from nbcache.model.fingerprint import Component
from nbcache.model.ids import make_ulid
from nbcache.model.row import ProcessRecord, RunRow
from nbcache.notebook.differences import render_diff
from nbcache.store.cache import Cache
from tests.engine.notebooks import Notebook
from tests.notebook.shells import shell_in
from tests.waiting import PATIENCE_S

HELPER = "def norm(v):\n    # as it is\n    return v / {by}"
GRID = "%channel grid = of({items})"
FIT = "%%process fit(x) -> score from grid\nscore = norm(x)"


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    made = Notebook(tmp_path)
    yield made
    made.close()


def begin(notebook: Notebook, *more: str, items: str = "1, 2, 3") -> None:
    """Run fit over some items with the first helper, and what else there is."""
    notebook.cells([HELPER.format(by=2), GRID.format(items=items), FIT, *more])
    assert notebook.run().status.value == "succeeded"


def again(notebook: Notebook, *changes: str, data: bool = False, **how: bool) -> RunDiff:
    """Run some cells anew and then the pipeline; return how that run differs from the last."""
    notebook.cells(changes)
    notebook.run(**how)
    return diff_runs(notebook.session.cache, data=data)


def process(diff: RunDiff, name: str) -> ProcessDiff:
    return next(each for each in diff.processes if each.name == name)


def text_of(diff: RunDiff) -> str:
    return render_diff(diff).text


def test_a_changed_helper_is_named_with_its_source_diff(notebook: Notebook) -> None:
    begin(notebook)

    diff = again(notebook, HELPER.format(by=4))

    fit = process(diff, "fit")
    (group,) = fit.groups
    assert (fit.ran, fit.total, group.ran) == (3, 3, 3)
    assert group.text.startswith("helper norm changed (")
    assert [title for title, _ in group.sources] == ["helper norm"]
    assert "-    return v / 2\n+    return v / 4" in group.sources[0][1]
    assert len(fit.results("different")) == 3
    text = text_of(diff)
    assert "fit: 3 of 3 ran: helper norm changed" in text
    assert "3 came out different" in text
    assert "    +    return v / 4" in text


def test_of_many_captured_values_each_has_a_line_and_what_else_is_known_stands_below_it(
    notebook: Notebook,
) -> None:
    values = "a, b, c, d = {k}, {k}, {k}, [{k}, 2{more}]"
    notebook.cells(
        [
            values.format(k=1, more=""),
            "%channel one = of(1)",
            "%%process add(x) -> y from one\ny = x + a + b + c + len(d)",
        ]
    )
    notebook.run()

    told = text_of(again(notebook, values.format(k=1, more=", 3"), "b = c = a = 5")).splitlines()

    (at,) = [at for at, line in enumerate(told) if line.startswith("    captured   d ")]
    assert told[at + 1] == f"    {'':<10} [2] is new"
    assert not any(line.lstrip().startswith(("---", "+++")) for line in told)  # no more to tell


def test_one_more_item_in_front_leaves_the_others_paired_and_equal(notebook: Notebook) -> None:
    begin(notebook)

    diff = again(notebook, GRID.format(items="7, 1, 2, 3"))

    fit = process(diff, "fit")
    assert [task.before.label for task in fit.tasks] == [task.after.label for task in fit.tasks]
    assert [each.label for each in fit.only_after] == ["fit[x=7]"]
    assert fit.only_before == ()
    assert fit.groups == ()
    assert (fit.ran, fit.total, len(fit.results("equal"))) == (1, 4, 3)
    assert "1 task, 1 ran: x=7" in text_of(diff)


def test_items_without_a_text_of_their_own_are_paired_by_content(notebook: Notebook) -> None:
    table = "import pandas as pd\ntables = [pd.DataFrame({{'a': [k, k]}}) for k in ({items})]"
    notebook.cells(
        [
            table.format(items="1, 2"),
            "%channel frames = of(*tables)",
            "%%process add(frame) -> total from frames\ntotal = int(frame['a'].sum())",
        ]
    )
    notebook.run()

    diff = again(notebook, table.format(items="5, 1, 2"), "%channel frames = of(*tables)")

    add = process(diff, "add")
    positions = [
        (task.before.made.position, task.after.use.position if task.after.use else None)
        for task in add.tasks
    ]
    assert positions == [("0", "1"), ("1", "2")]
    assert len(add.only_after) == 1


def test_a_changed_input_from_above_is_followed_by_its_item(notebook: Notebook) -> None:
    begin(notebook, "%%process twice(s) -> out from fit\nout = s * 2 > 1")

    diff = again(notebook, HELPER.format(by=8))

    twice = process(diff, "twice")
    assert twice.only_before == twice.only_after == ()
    (group,) = twice.groups
    assert group.text == "input s 0.5 → 0.125 (the first of 3)"
    assert [task.result for task in twice.tasks] == ["equal", "different", "different"]


def test_an_item_is_followed_though_its_value_became_what_anothers_was(notebook: Notebook) -> None:
    begin(notebook, "%%process twice(s) -> out from fit\nout = s * 2", items="2, 4, 8")

    diff = again(notebook, HELPER.format(by=4), GRID.format(items="2, 4, 8, 16"))

    twice = process(diff, "twice")
    assert [(task.before.label, task.after.label) for task in twice.tasks] == [
        ("twice[s=1.0]", "twice[s=0.5]"),
        ("twice[s=2.0]", "twice[s=1.0]"),
        ("twice[s=4.0]", "twice[s=2.0]"),
    ]
    assert [task.ran for task in twice.tasks] == [True, False, False]
    assert [each.label for each in twice.only_after] == ["twice[s=4.0]"]


def test_of_several_inputs_those_that_stay_tell_which_task_it_was(notebook: Notebook) -> None:
    cell = "%channel pairs = of(({first}, 10), (2, 20))"
    body = "%%process mix(a, b) -> c from pairs\nc = a + b"
    notebook.cells([cell.format(first=1), body])
    notebook.run()

    diff = again(notebook, cell.format(first=5))

    mix = process(diff, "mix")
    (group,) = mix.groups
    assert group.text == "input a 1 → 5"
    assert [(t.before.label, t.after.label) for t in group.tasks] == [
        ("mix[a=1 b=10]", "mix[a=5 b=10]")
    ]


def test_another_item_with_nothing_in_common_is_another_task(notebook: Notebook) -> None:
    begin(notebook, items="1")

    diff = again(notebook, GRID.format(items="2"))

    fit = process(diff, "fit")
    assert fit.tasks == ()
    assert [each.label for each in fit.only_before] == ["fit[x=1]"]
    assert [each.label for each in fit.only_after] == ["fit[x=2]"]


def test_two_equal_runs_are_said_to_be_equal_in_one_line(notebook: Notebook) -> None:
    begin(notebook)

    diff = again(notebook)

    assert process(diff, "fit").unchanged
    assert text_of(diff).splitlines()[1:] == ["equal: fit (3 tasks)"]


def test_a_task_that_ran_though_nothing_differs_says_so_and_hints_at_chance(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            GRID.format(items="1, 2"),
            "%%process draw(x) -> out from grid\nimport os\nout = os.urandom(8)",
        ]
    )
    notebook.run()

    diff = again(notebook, fresh=True)

    draw = process(diff, "draw")
    assert draw.ran == 2
    assert len(draw.results("different")) == 2
    rendered = render_diff(diff)
    assert all("randomness without a seed" in each for each in (rendered.text, rendered.html))


def test_a_renamed_process_keeps_its_tasks(notebook: Notebook) -> None:
    begin(notebook)
    notebook.cell("%%process train(x) -> score from grid\nscore = norm(x)")
    notebook.run("train")

    diff = diff_runs(notebook.session.cache)

    train = process(diff, "train")
    assert train.was == "fit"
    assert len(train.results("equal")) == 3
    assert train.ran == 0
    assert [each.name for each in diff.processes] == ["train"]
    assert "it was called fit" in text_of(diff)


def test_a_process_that_is_new_or_gone_is_said_to_be(notebook: Notebook) -> None:
    begin(notebook)
    notebook.cell("%%process other(x) -> out from grid\nout = str(x)")
    notebook.run("other")

    diff = diff_runs(notebook.session.cache)

    assert process(diff, "fit").gone
    assert process(diff, "other").was == ""
    assert f"fit: only in {diff.before.name}" in text_of(diff)
    assert f"other: only in {diff.after.name}, 3 of 3 ran" in text_of(diff)


def test_a_task_that_fails_now_has_no_result_to_compare(notebook: Notebook) -> None:
    begin(notebook)

    diff = again(notebook, "def norm(v):\n    return v / (v - 2)")

    fit = process(diff, "fit")
    assert [task.result for task in fit.tasks].count("missing") == 1
    assert "succeeded before, failed now: 1 task: x=2" in text_of(diff)


def test_tasks_that_succeed_again_stand_in_one_line_whether_they_ran_or_were_found(
    notebook: Notebook,
) -> None:
    begin(notebook, items="1, 2")
    again(notebook, "def norm(v):\n    return v / 0", GRID.format(items="1, 2, 3"))

    diff = again(notebook, HELPER.format(by=2))

    assert process(diff, "fit").ran == 1
    assert text_of(diff).count("failed before, succeeded now: 3 tasks") == 1


def test_an_input_that_is_passed_on_is_a_result_to_compare(notebook: Notebook) -> None:
    made = "%%process same(s) -> s, one from fit\none = 1\n"
    begin(notebook, f"{made}s = s + 0")

    diff = again(notebook, made)

    assert process(diff, "same").ran == 3
    assert len(process(diff, "same").results("equal")) == 3, "made before, passed on now"

    diff = again(notebook, HELPER.format(by=4))

    (different,) = {task.result for task in process(diff, "same").tasks}
    assert different == "different", "passed on before and now"
    record = process(diff, "same").tasks[0].outputs[1].record()
    assert record["after"]["passed_on"] == "0.25"  # type: ignore[index]


def test_one_run_is_compared_with_the_one_before_it_and_two_as_named(notebook: Notebook) -> None:
    begin(notebook)
    with pytest.raises(RunError, match="is the first"):
        diff_runs(notebook.session.cache)
    again(notebook, HELPER.format(by=4))
    latest = again(notebook, HELPER.format(by=8))
    cache = notebook.session.cache
    middle, last = latest.before.name, latest.after.name

    assert diff_runs(cache, [middle]).after.name == middle
    assert diff_runs(cache, [last, middle]).after.name == middle
    assert diff_runs(cache, [latest.before.id, "last"]).after.name == last
    with pytest.raises(RunError, match="no run 'nobody'"):
        diff_runs(cache, ["nobody", last])
    with pytest.raises(UsageError, match="no process in these runs 'fot'; did you mean \"fit\""):
        diff_runs(cache, process="fot")


def test_runs_of_other_processes_in_between_are_passed_over(notebook: Notebook) -> None:
    begin(notebook)
    first = notebook.session.last_run
    notebook.cell("%%process other(x) -> out from grid\nout = str(x)")
    notebook.run("other")
    notebook.cell(HELPER.format(by=4))
    notebook.run("fit")

    diff = diff_runs(notebook.session.cache)

    assert first is not None
    assert diff.before.id == first.id
    assert process(diff, "fit").ran == 3


VALUES = """%%process make(x) -> table, array, plan, note from grid
import numpy as np
import pandas as pd
table = pd.DataFrame({'id': [1, 2, 3], 'score': [0.1, 0.2, norm(x)], 'kind': list('abc')})
array = np.arange(6, dtype='float64').reshape(2, 3)
array[1, 1] += norm(x)
plan = {'depth': 3, 'by': norm(x)}
note = f'first line\\nby {norm(x)}'"""


def test_data_tells_rows_elements_members_and_lines(notebook: Notebook) -> None:
    notebook.cells([HELPER.format(by=2), GRID.format(items="1"), VALUES])
    notebook.run()

    diff = again(notebook, HELPER.format(by=4), data=True)

    (task,) = process(diff, "make").tasks
    data = {each.name: each.data for each in task.outputs}
    assert {name: each.kind for name, each in data.items() if each} == {
        "table": "table",
        "array": "array",
        "plan": "members",
        "note": "text",
    }
    table, array, plan, note = (data[name] for name in ("table", "array", "plan", "note"))
    assert table
    assert array
    assert plan
    assert note
    assert table.data["first_removed"] == [[3, 0.5, "c"]]
    assert table.data["first_added"] == [[3, 0.25, "c"]]
    assert table.data["cells_changed"] == {"score": 1}
    assert array.data["different"] == 1
    assert array.data["max_abs_difference"] == 0.25
    assert array.lines == ("[1, 1]: 4.5 → 4.25",)
    assert plan.lines == ("'by': 0.5 → 0.25",)
    assert "-by 0.5" in note.lines
    json.dumps(diff.record())
    assert "1 row added; 1 row removed" in text_of(diff)


def test_data_of_tables_with_other_columns_and_types(notebook: Notebook) -> None:
    cell = "%%process make(x) -> out from grid\nimport pandas as pd\nout = pd.DataFrame({columns})"
    notebook.cells([GRID.format(items="1"), cell.format(columns="{'a': [1, 2], 'b': [1, 2]}")])
    notebook.run()

    changed = cell.format(columns="{'a': ['1', '2', '3'], 'c': [1, 2, 3]}")
    diff = again(notebook, changed, data=True)

    found = process(diff, "make").tasks[0].outputs[0].data
    assert found is not None
    assert found.data["columns_added"] == ["c"]
    assert found.data["columns_removed"] == ["b"]
    assert found.data["rows"] == [2, 3]
    assert found.data["rows_added"] == 1
    assert "a int64 → " in found.head


def test_data_of_files_is_a_diff_of_their_lines(notebook: Notebook) -> None:
    cell = (
        "%%process write(x) -> out: path = 'note.txt', dots: path = 'dots.npy' from grid\n"
        "import numpy as np\nnp.save('dots', np.arange({1}))\n"
        "open('note.txt', 'w').write('one\\n{0}\\n')"
    )
    notebook.cells([GRID.format(items="1"), cell.format("two", 3)])
    notebook.run()

    diff = again(notebook, cell.format("three", "1, 4"), data=True)

    found, dots = (each.data for each in process(diff, "write").tasks[0].outputs)
    assert found is not None
    assert dots is not None
    assert (dots.kind, dots.head) == (
        "file",
        "dots.npy: 152 bytes; array 3 int64: 3 of 3 elements differ, by at most 1",
    )
    assert found.kind == "file"
    assert found.head == "note.txt: 8 → 10 bytes"
    assert "-two" in found.lines
    assert "+three" in found.lines


def test_a_result_that_is_no_longer_kept_is_said_not_raised(notebook: Notebook) -> None:
    notebook.cells(
        [
            HELPER.format(by=2),
            GRID.format(items="1"),
            "%%process big(x) -> out from grid\nimport numpy as np\nout = np.full(9000, norm(x))",
        ]
    )
    notebook.run()
    cache = notebook.session.cache
    again(notebook, HELPER.format(by=4))
    gone = process(diff_runs(cache), "big").tasks[0].before.made.outputs[0].stored
    assert gone.blob is not None
    cache.blobs.path(gone.blob).unlink()

    diff = diff_runs(cache, data=True)

    found = process(diff, "big").tasks[0].outputs[0].data
    assert found is not None
    assert found.kind == "gone"
    assert "no longer in the cache" in text_of(diff)


def test_no_more_results_are_read_than_asked_for(notebook: Notebook) -> None:
    begin(notebook)
    again(notebook, HELPER.format(by=4))

    diff = diff_runs(notebook.session.cache, data=True, limit=1)

    fit = process(diff, "fit")
    assert sum(task.outputs[0].data is not None for task in fit.tasks) == 1
    assert fit.data_left == 2
    assert "… and 2 more (--limit, --process)" in text_of(diff)


def test_the_shell_compares_from_another_process_as_data(notebook: Notebook) -> None:
    begin(notebook)
    names = again(notebook, HELPER.format(by=4))

    answer = subprocess.run(
        [sys.executable, "-m", "nbcache", "diff", "--data", "--json", "--cache", "cache"],
        cwd=notebook.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )

    told = json.loads(answer.stdout)
    assert (told["before"]["name"], told["after"]["name"]) == (names.before.name, names.after.name)
    (fit,) = told["processes"]
    assert fit["results"] == {"equal": 0, "different": 3, "missing": 0}
    assert [each["kind"] for each in fit["reasons"][0]["differences"]] == ["helper"]
    first = fit["tasks"][0]
    assert first["task"] == "fit[x=1]"
    assert first["outputs"][0]["data"]["before"] == 0.5
    assert first["outputs"][0]["data"]["after"] == 0.25


def test_a_run_that_is_going_is_compared_so_far(notebook: Notebook, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    begin(notebook)
    gated = "from pathlib import Path\nimport time\n"
    notebook.cell(HELPER.format(by=4))
    notebook.cell(
        "%%process slow(x) -> out from grid\n"
        f"{gated}while not Path({str(gate)!r}).exists():\n    time.sleep(0.01)\nout = x"
    )
    run = notebook.session.start(())
    try:
        diff = diff_runs(notebook.session.cache, ["last"])
        assert diff.after.status == "running"
        assert f"run {diff.after.name} is still going" in text_of(diff)
    finally:
        gate.touch()
        assert run.wait(PATIENCE_S)


def test_what_users_wrote_is_escaped(notebook: Notebook) -> None:
    notebook.cells([GRID.format(items="'<b>1</b>'"), "%%process p(x) -> out from grid\nout = x"])
    notebook.run()

    diff = again(notebook, "%%process p(x) -> out from grid\nout = x + '<i>&</i>'", data=True)

    html = render_diff(diff).html
    assert "<b>1</b>" not in html
    assert "<i>" not in html
    assert "&lt;i&gt;&amp;&lt;/i&gt;" in html


def test_tasks_that_differ_and_were_found_are_told_from_those_that_ran(notebook: Notebook) -> None:
    begin(notebook)
    again(notebook, HELPER.format(by=4))

    diff = again(notebook, HELPER.format(by=2))

    fit = process(diff, "fit")
    assert fit.ran == 0
    assert fit.groups[0].text.startswith("helper norm changed")
    assert "3 of 3 differ and were cached: helper norm changed" in text_of(diff)


def test_of_tasks_that_differ_alike_those_are_named_that_ran(notebook: Notebook) -> None:
    begin(notebook, "%%process up(score) -> z from fit\nz = score + 1", items="4, 2")
    again(notebook, HELPER.format(by=4))
    cache = notebook.session.cache

    diff = diff_runs(cache, data=True, limit=1)

    html = render_diff(diff).html
    assert "1 of 2 ran: score=0.5<" in html  # the other had been made of the same number before
    assert process(diff, "up").groups[0].text == "input score 1.0 → 0.5"
    assert f"%nbcache diff {diff.before.name} {diff.after.name} --data --limit N" in html


def test_packages_and_parameters_are_told_once_for_the_whole_run(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "cache") as cache:
        for number, version in ((1, "2.1.0"), (2, "2.2.0")):
            package = Component("package", "numpy", 1, identity_digest(version.encode()), version)
            records = tuple(ProcessRecord(name=name, components=(package,)) for name in ("a", "b"))
            rows = {"run": f"{number}" * 26, "name": f"run-{number}", "at": number}
            row = RunRow(
                id=make_ulid(number, bytes(10)),
                **rows,  # type: ignore[arg-type]
                status="succeeded",
                processes=records,
                parameters={"depth": str(number), "same": "1"},
            )
            cache.log.append([row])

        diff = diff_runs(cache)

        assert diff.parameters == (("depth", "1", "2"),)
        lines = text_of(diff).splitlines()
        assert lines[1:3] == ["parameter depth: 1 → 2", "package numpy 2.1.0 → 2.2.0"]
        assert sum("numpy" in line for line in lines) == 1


def test_the_magic_shows_the_same_and_gives_data_with_json(tmp_path: Path) -> None:
    with shell_in(tmp_path) as shell:
        for by in (2, 4):
            shell.ok(HELPER.format(by=by))
            shell.ok(GRID.format(items="1, 2"))
            shell.ok(FIT)
            shell.ok("%nbcache run")

        assert "fit: 2 of 2 ran: helper norm changed" in shell.ok("%nbcache diff").text
        found = shell.ok("%nbcache diff --json --process fit").value
        assert found["processes"][0]["results"]["different"] == 2
