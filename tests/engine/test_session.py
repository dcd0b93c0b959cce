"""Pipelines through real workers: what runs, what is a hit, what people are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nbcache.engine import describe
from nbcache.engine.describe import Allowance
from nbcache.errors import (
    BodyError,
    ChannelError,
    DeclarationError,
    NbcacheError,
    NoCanonicalFormError,
    NotRunError,
    RunError,
    RunFailed,
    UsageError,
    WiringError,
)
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S

Kernels = Callable[[], Notebook]


def scaled(notebook: Notebook, items: str = "1, 2, 3", factor: int = 10, remark: str = "") -> None:
    notebook.cells(
        [
            f"%channel src = of({items})",
            f"factor = {factor}",
            "def scale(v):\n    return v * factor\n",
            f"%%process work(v) -> out from src\n{remark}{notebook.mark('v')}\nout = scale(v)",
            "%%process total(outs) -> s from work.collect()\n"
            f"{notebook.mark(repr('total'))}\ns = sum(outs)",
        ]
    )


def test_a_second_kernel_runs_nothing_and_reads_the_same_values(kernels: Kernels) -> None:
    first, second = kernels(), kernels()
    scaled(first)
    assert first.run().counts() == {"completed": 4}
    assert first.ran() == ["1", "2", "3", "total"]

    scaled(second, remark="# a remark\n")
    run = second.run()

    assert second.ran() == []
    assert run.counts() == {"cached": 4}
    assert list(run["work"]) == [10, 20, 30]
    assert run["total"].value == 60


def test_what_a_helper_reads_decides_which_tasks_run_again(kernels: Kernels) -> None:
    notebook = kernels()
    scaled(notebook)
    notebook.run()
    notebook.cell("factor = 11")
    run = notebook.run()
    assert notebook.ran() == ["1", "2", "3", "total"]
    assert "factor" in run.reasons["work"]
    notebook.cell("factor = 10")
    notebook.run()
    assert notebook.ran() == []


def test_one_item_more_runs_that_item_and_what_gathers(notebook: Notebook) -> None:
    scaled(notebook)
    notebook.run()
    notebook.cell("%channel src = of(1, 2, 3, 4)")
    notebook.run()
    assert notebook.ran() == ["4", "total"]


def test_equal_results_of_changed_code_stop_the_wave(notebook: Notebook) -> None:
    scaled(notebook)
    notebook.run()
    notebook.cell("def scale(v):\n    return factor * v\n")
    notebook.run()
    assert notebook.ran() == ["1", "2", "3"]


def test_tasks_with_the_same_hash_run_once(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(5, 5, 5)")
    notebook.cell(f"%%process work(v) -> out from src\n{notebook.mark('v')}\nout = v")
    run = notebook.run()
    assert notebook.ran() == ["5"]
    assert list(run["work"]) == [5, 5, 5]


def test_a_failed_task_leaves_the_others_and_says_where(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(0, 1, 2)")
    notebook.cell(f"%%process inverse(v) -> out from src\n{notebook.mark('v')}\nout = 1 / v")
    notebook.cell("%%process total(outs) -> s from inverse.collect()\ns = sum(outs)")
    run = notebook.run()
    assert run.status is RunStatus.FAILED
    assert run.counts() == {"failed": 1, "completed": 2}
    with pytest.raises(RunFailed) as caught:
        run.raise_for_status()
    text = str(caught.value)
    assert "inverse[v=0] ZeroDivisionError: division by zero" in text
    assert "cell [2] line 3: out = 1 / v" in text
    assert "2 of 3 done and kept" in text
    assert "%nbcache try inverse --item failed" in text
    notebook.run()
    assert notebook.ran() == ["0"]


def test_an_ignored_failure_lets_the_run_succeed_and_is_tried_again(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(0, 1, 2)")
    notebook.cell(
        f"%%process inverse(v) -> out from src --on_error ignore\n{notebook.mark('v')}\nout = 1 / v"
    )
    notebook.cell("%%process total(outs) -> s from inverse.collect()\ns = sum(outs)")
    run = notebook.run()
    assert run.status is RunStatus.SUCCEEDED
    assert run["total"].value == 1.5
    notebook.run()
    assert notebook.ran() == ["0"]


def test_a_retried_success_is_a_hit_the_next_time(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(7)")
    notebook.cell(
        "%%process flaky(v) -> out from src --retries 3\n"
        f"{notebook.mark('task.attempt')}\n"
        "if task.attempt < 3:\n    raise ValueError('not yet')\nout = v"
    )
    notebook.run()
    assert notebook.ran() == ["1", "2", "3"]
    assert notebook.run().counts() == {"cached": 1}


def test_retry_then_ignore_by_a_function_of_the_attempt(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(7)")
    notebook.cell(
        "%%process flaky(v) -> out from src\n"
        '#| on_error: "retry" if task.attempt < 2 else "ignore"\n'
        f"{notebook.mark('task.attempt')}\nraise ValueError('never')\nout = v"
    )
    run = notebook.run()
    assert notebook.ran() == ["1", "2"]
    assert run.counts() == {"ignored": 1}
    assert run.status is RunStatus.SUCCEEDED


def test_when_skips_a_task_and_what_is_below_it(notebook: Notebook) -> None:
    notebook.cell("%channel grid = product(alpha=[0.0, 0.5])")
    notebook.cell("%%process fit from grid\n#| when: alpha > 0.1\nscore = alpha * 2")
    notebook.cell("%%process show(score) -> text from fit\ntext = str(score)")
    run = notebook.run()
    assert run.counts() == {"skipped": 1, "completed": 2}
    assert run["show"].value == "1.0"


def test_scripts_take_variables_files_and_give_files_and_values(
    notebook: Notebook, tmp_path: Path
) -> None:
    (tmp_path / "a b'$(touch x).txt").write_text("one\ntwo\n")
    notebook.cell('%channel texts = from_path("*.txt")')
    notebook.cell(
        '%%process count(text: path) -> lines: int, copy: path = "out/*.copy" from texts --bash\n'
        f"echo ran >> '{notebook.trace}'\n"
        'lines=$(wc -l < "$text")\nmkdir out\ncp "$text" "out/$text.copy"'
    )
    notebook.cell("%%process read(copy: path) -> body from count\nbody = copy.read_text()")
    run = notebook.run()
    run.raise_for_status()
    assert run["count"][0][0] == 2
    assert run["read"].value == "one\ntwo\n"
    notebook.run()
    assert notebook.ran() == []


def test_touching_a_file_is_a_hit_and_another_byte_is_not(
    notebook: Notebook, tmp_path: Path
) -> None:
    data = tmp_path / "data.txt"
    data.write_text("one")
    notebook.cell('%channel text = value(path("data.txt"))')
    notebook.cell(
        f"%%process read(text: path) -> body\n{notebook.mark(1)}\nbody = text.read_text()"
    )
    notebook.cell("%%process use(text: path) -> n from text\nn = len(text.read_text())")
    notebook.run()
    data.touch()
    notebook.run()
    assert notebook.ran() == []
    data.write_text("two")
    notebook.run()
    assert notebook.ran() == ["1"]


def test_two_queues_pair_by_position_and_values_repeat(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel left = of(1, 2, 3)",
            "%channel right = of(10, 20, 30)",
            "%channel plus = value(100)",
            "%%process add(a, b, c) -> out from left, right, plus\nout = a + b + c",
        ]
    )
    assert list(notebook.run()["add"]) == [111, 122, 133]


def test_queues_of_different_length_are_an_error_with_the_ways_out(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel left = of(1, 2, 3)",
            "%channel right = of(10, 20)",
            "%%process add(a, b) -> out from left, right\nout = a + b",
        ]
    )
    run = notebook.run()
    assert run.status is RunStatus.FAILED
    for word in ("left", "right", "3", "2", "combine", "join", "product"):
        assert word in run.error


def test_reading_runs_what_is_missing_and_only_that(notebook: Notebook) -> None:
    scaled(notebook)
    assert notebook.names["total"].value == 60
    before = notebook.session.last_run
    assert list(notebook.names["work"]) == [10, 20, 30]
    assert notebook.session.last_run is before


def test_a_run_holds_nothing_for_tasks_that_showed_nothing(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell("%%process say(v) -> o from src\nprint('x' * (v - 1), end='')\no = v")
    run = notebook.run()
    assert run.live_shown == {}
    assert [position for _, _, position in run.showing("say")] == ["1"]


def test_a_repr_runs_nothing(notebook: Notebook) -> None:
    scaled(notebook)
    repr(notebook.names["work"])
    assert notebook.session.last_run is None


def test_a_table_has_scalar_inputs_and_outputs_a_row_per_task(notebook: Notebook) -> None:
    notebook.cell("%channel grid = product(depth=[2, 4], rep=range(2))")
    notebook.cell("%%process fit from grid\nscore = depth * 10 + rep")
    table = notebook.names["fit"].table()
    assert list(table.columns) == ["depth", "rep", "score"]
    assert list(table["score"]) == [20, 21, 40, 41]
    notebook.cell(
        "%%process said(depth, rep) from grid\n"
        "{'rep': -1, 'sum': depth + rep, 'parts': [depth, rep]}"
    )
    table = notebook.names["said"].table()
    assert table.to_dict("list") == {
        "depth": [2, 2, 4, 4],
        "rep": [0, 1, 0, 1],
        "said.rep": [-1, -1, -1, -1],
        "sum": [2, 3, 4, 5],
    }
    notebook.cell(
        "%%process two(depth, rep) -> x, y from grid\n"
        "x = {'k': 1} if rep else {}\ny = {'k': 2, 'x': 5, 'own': rep}"
    )
    rows = notebook.names["two"].table().fillna(0).to_dict("list")
    assert (rows["x.k"], rows["y.k"], rows["y.x"]) == ([0, 1, 0, 1], [2] * 4, [5] * 4)
    assert set(rows) == {"depth", "rep", "own", "x.k", "y.k", "y.x"}


def test_fresh_ignores_the_cache_and_its_results_win(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell(
        "%%process stamp(v) -> out from src\nimport time\n"
        f"{notebook.mark('v')}\nout = time.time_ns()"
    )
    first = notebook.run()["stamp"].value
    second = notebook.run(fresh=True)["stamp"].value
    assert second != first
    assert notebook.run()["stamp"].value == second


def test_no_cache_writes_nothing(notebook: Notebook) -> None:
    scaled(notebook)
    run = notebook.run(no_cache=True)
    assert run["total"].value == 60
    notebook.run()
    assert notebook.ran() == ["1", "2", "3", "total"]


def test_a_plan_agrees_with_the_run_that_follows(notebook: Notebook) -> None:
    scaled(notebook)
    plan = {each.name: each for each in notebook.session.plan()}
    assert (plan["work"].to_run, plan["work"].cached) == (3, 0)
    assert plan["total"].unknown == 1
    notebook.run()
    notebook.cell("%channel src = of(1, 2, 3, 4)")
    plan = {each.name: each for each in notebook.session.plan()}
    assert (plan["work"].to_run, plan["work"].cached) == (1, 3)
    assert plan["total"].unknown == 1
    notebook.run()
    plan = {each.name: each for each in notebook.session.plan()}
    assert (plan["total"].to_run, plan["total"].cached, plan["total"].unknown) == (0, 1, 0)


def test_a_plan_does_not_know_which_items_are_chosen_among_results_to_come(
    notebook: Notebook,
) -> None:
    notebook.cells(["%channel src = of(3, 4)", "%%process work(v) -> x from src\nx = v"])
    notebook.run()  # the last two of the four below are hits, and none of them is chosen
    choices = {"two": "take(2)", "one": "first()", "odd": "unique(lambda x: x % 2)"}
    for name, choice in choices.items():
        notebook.cell(f"%%process {name}(x) -> y from work.{choice}\ny = x")
    notebook.cell("%channel src = of(1, 2, 3, 4)")

    plan = {each.name: each for each in notebook.session.plan(list(choices))}
    run = notebook.run(*choices)

    assert [plan[name].tasks for name in choices] == [None, 1, None]
    assert [(plan[name].to_run, plan[name].unknown) for name in choices] == [(0, 0), (0, 1), (0, 2)]
    assert [list(run[name]) for name in choices] == [[1, 2], [1], [1, 2]]


def test_a_plan_does_not_count_what_tasks_to_come_may_multiply(notebook: Notebook) -> None:
    twice = "work.flat_map(lambda x: [x] * 2)"
    wirings = {
        "several": f"(x) -> y from {twice}",
        "crossed": "(x, z) -> y from work.combine(work.take(2).fields('z'))",
        "grouped": "(x, k, w) -> y from src.fields('x').combine("
        "work.map(lambda x: (x % 2, x)).fields('k', 'w').group_by('k'))",
        "beside": f"(x) -> y from work.mix({twice})",
        "pairs": "(x, z) -> y from src.fields('x').combine(work.fields('z'))",
        "sums": f"(x, z) -> y from work, {twice}.collect()",
    }
    notebook.cells(["%channel src = of(1, 2, 3)", "%%process work(v) -> x from src\nx = v"])
    notebook.cells([f"%%process {name}{wiring}\ny = 0" for name, wiring in wirings.items()])

    plan = {each.name: each.tasks for each in notebook.session.plan()}
    run = notebook.run()

    assert [plan[name] for name in wirings] == [None, None, None, None, 9, 3]
    assert [len(list(run[name])) for name in wirings] == [6, 6, 6, 9, 9, 3]
    plan = {each.name: each.tasks for each in notebook.session.plan()}
    assert [plan[name] for name in wirings] == [6, 6, 6, 9, 9, 3]


def test_tasks_that_two_calls_share_are_planned_once(notebook: Notebook) -> None:
    calls = ["%channel few = work(of(1, 2))", "%channel more = work(of(2, 3))"]
    notebook.cells(["%%process work(v) -> x\nx = v", *calls])

    plan = [(each.to_run, each.equal) for each in notebook.session.plan(["work"])]
    run = notebook.run("work")

    places = run.progress().places
    assert plan == [(each.counts["completed"], each.equal) for each in places] == [(2, 0), (1, 1)]


def test_a_card_says_signature_wiring_captures_and_plan(notebook: Notebook) -> None:
    scaled(notebook)
    view = notebook.session.card(notebook.names["work"])
    assert view.signature == "work(v) → out"
    assert view.wiring == "from src"
    assert [each.name for each in view.captures] == ["scale", "factor"]
    assert view.plan is not None
    assert view.plan.to_run == 3


def test_inputs_named_like_channels_wire_a_process(notebook: Notebook) -> None:
    notebook.cell("%channel numbers = of(1, 2)")
    notebook.cell("%%process double(numbers) -> twice\ntwice = numbers * 2")
    notebook.cell("%%process inferred\nresult = double + 1")
    run = notebook.run()
    assert list(run["double"]) == [2, 4]
    assert list(run["inferred"]) == [3, 5]


def test_a_process_can_be_called_at_several_places(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel small = of(1, 2)",
            "%channel large = of(100, 200, 1)",
            f"%%process double(v) -> twice\n{notebook.mark('v')}\ntwice = v * 2",
            "%channel a = double(small)",
            "%channel b = double(large)",
        ]
    )
    run = notebook.run()
    assert notebook.ran() == ["1", "100", "2", "200"]
    assert sorted(len(run[place]) for place in run.places) == [2, 3]


def test_an_unknown_name_in_from_points_at_the_nearest(notebook: Notebook) -> None:
    notebook.cell("%channel numbers = of(1, 2)")
    notebook.cell("%%process double(v) -> twice from nunbers\ntwice = v * 2")
    with pytest.raises(NbcacheError, match="numbers"):
        notebook.run()


def test_a_channel_may_come_with_a_later_cell(notebook: Notebook) -> None:
    notebook.cell("%%process double(v) -> twice from numbers\ntwice = v * 2")
    view = notebook.session.card(notebook.names["double"])
    assert "numbers" in view.hindrances[0]
    notebook.cell("%channel numbers = of(1, 2)")
    assert list(notebook.run()["double"]) == [2, 4]


def test_settings_of_a_module_may_be_changed_in_a_body(notebook: Notebook) -> None:
    notebook.cell("import json\nrows = [1]")
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src\njson.flag = v\nout = json.flag")
    assert notebook.run()["work"].value == 1
    with pytest.raises(BodyError, match="rows"):
        notebook.cell("%%process work(v) -> out from src\nrows.append(v)\nout = rows")


def test_a_field_may_be_changed_where_a_variable_of_its_name_may_not(notebook: Notebook) -> None:
    notebook.cell("rows = [1]")
    notebook.cell("%channel src = of([1, 2]).fields('rows')")
    notebook.cell("%%process work from src\nrows.append(3)\nlength = len(rows)")
    assert notebook.run()["work"].value == 3


def test_a_path_default_is_a_file_beside_the_notebook(notebook: Notebook, tmp_path: Path) -> None:
    data = tmp_path / "x.csv"
    data.write_text("1,2")
    notebook.cell(
        f'%%process clean(raw: path = "x.csv") -> text\n{notebook.mark(1)}\ntext = raw.read_text()'
    )
    assert notebook.run()["clean"].value == "1,2"
    notebook.run()
    assert notebook.ran() == []
    data.write_text("3,4")
    assert notebook.run()["clean"].value == "3,4"


def test_a_dict_from_map_names_the_fields(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2).map(lambda x: {'a': x, 'b': x * 10})")
    notebook.cell("%%process add(b, a) -> out from src\nout = b - a")
    assert list(notebook.run()["add"]) == [9, 18]


def test_an_optional_output_that_was_not_made_skips_what_needs_it(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of(1, 2)",
            '%%process make(v) -> v, note: path | None = "note.txt" from src\n'
            "if v == 1:\n    open('note.txt', 'w').write('one')",
            "%%process read(note: path) from make\n"
            f"{notebook.mark(repr('read'))}\nnote.read_text()",
            "%%process either(v, note: path | None) -> text from make\n"
            "text = note.read_text() if note else f'no note for {v}'",
        ]
    )
    run = notebook.run()
    assert list(run["read"]) == ["one"]
    assert list(run["either"]) == ["one", "no note for 2"]
    assert run.counts() == {"completed": 5, "skipped": 1}
    assert notebook.run().counts() == {"cached": 5, "skipped": 1}


def test_a_large_value_beside_a_queue_is_packed_once_and_taken_anew_by_each_task(
    notebook: Notebook,
) -> None:
    notebook.cell("import pandas as pd\nframe = pd.DataFrame({'x': range(300_000)})")
    notebook.cell("%channel table = value(frame)")
    notebook.cell("%channel src = from_iterable(range(6))")
    notebook.cell(
        "%%process count(v, frame) -> n from src, table\nn = int(frame.x.sum()) + v\nframe['x'] = 0"
    )
    run = notebook.run()
    assert list(run["count"]) == [299_999 * 300_000 // 2 + v for v in range(6)]
    assert not list(notebook.session.cache.tmp.glob("run-*"))


def test_a_renamed_process_is_a_hit(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(f"%%process work(v) from src\n{notebook.mark('v')}\nv * 2")
    notebook.run()
    del notebook.names["work"]
    notebook.cell(f"%%process doubled(v) from src\n{notebook.mark('v')}\nv * 2")
    run = notebook.run()
    assert notebook.ran() == []
    assert list(run["doubled"]) == [2, 4]


def test_functions_travel_as_items_and_count_by_their_code(notebook: Notebook) -> None:
    def cells(factor: int) -> None:
        notebook.cell(f"def double(x):\n    return {factor} * x\ndef plus(x):\n    return x + 1\n")
        notebook.cell("%channel functions = from_iterable([double, plus])")
        notebook.cell(
            "%%process apply(function) -> out from functions\n"
            f"{notebook.mark('function.__name__')}\nout = function(10)"
        )

    cells(2)
    assert list(notebook.run()["apply"]) == [20, 11]
    cells(2)
    notebook.run()
    assert notebook.ran() == []
    cells(3)
    assert list(notebook.run()["apply"]) == [30, 11]
    assert notebook.ran() == ["double"]


def test_a_glob_without_a_match_says_where_it_looked(notebook: Notebook, tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match=r"no file matches data/\*\.fq") as caught:
        notebook.cell('%channel reads = from_path("data/*.fq")')
    assert str(tmp_path) in str(caught.value)
    assert "\n  there is no folder data" in str(caught.value)
    assert "reads" not in notebook.names
    (tmp_path / "Data").mkdir()
    (tmp_path / "Data/genome.fa").touch()
    for expression, meant in (
        ('from_path("data/*.fq")', "Data"),
        ('value(path("data/genome.fa"))', "Data"),
        ('value(path("Data/genom.fa"))', "Data/genome.fa"),
    ):
        with pytest.raises(ChannelError, match=f'did you mean "{meant}"'):
            notebook.cell(f"%channel x = {expression}")
    with pytest.raises(ChannelError, match="channel x: no file"):  # not the x of the file's name
        notebook.cell('%channel x = from_path("Data/x.fq")')


def test_a_cycle_is_named(notebook: Notebook) -> None:
    notebook.cell("%%process a(x) -> y from b\ny = x")
    notebook.cell("%%process b(y) -> x from a\nx = y")
    with pytest.raises(WiringError, match="cycle"):
        notebook.run()


def test_a_path_that_does_not_exist_fails_that_task_only(
    notebook: Notebook, tmp_path: Path
) -> None:
    (tmp_path / "there.txt").write_text("x")
    notebook.cell('%channel names = of("there.txt", "gone.txt")')
    notebook.cell("%%process read(name: path) -> n from names\nn = len(name.read_text())")
    run = notebook.run()
    assert run.counts() == {"completed": 1, "failed": 1}
    assert "gone.txt" in run.failures[0].error


def test_a_value_of_the_wrong_type_is_refused(notebook: Notebook) -> None:
    notebook.cell('%channel src = of("three")')
    notebook.cell("%%process work(v: int) -> out from src\nout = v")
    run = notebook.run()
    assert run.counts() == {"failed": 1}
    assert "declared as int" in run.failures[0].error


def test_a_broken_cell_leaves_the_earlier_process(notebook: Notebook) -> None:
    scaled(notebook)
    earlier = notebook.names["work"]
    with pytest.raises(DeclarationError):
        notebook.cell("%%process work(v) -> out from src\nreturn v")
    with pytest.raises(DeclarationError):
        notebook.cell("%%process work(v form src\nout = v")
    assert notebook.names["work"] is earlier
    assert notebook.run().counts() == {"completed": 4}


def test_what_has_no_canonical_form_is_named_with_the_ways_out(notebook: Notebook) -> None:
    notebook.cell("import threading\nlock = threading.Lock()\n")
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src\nwith lock:\n    out = v")
    with pytest.raises(NoCanonicalFormError, match="lock") as caught:
        notebook.run()
    assert "resource" in str(caught.value)


def test_a_body_that_reads_a_channel_is_told_to_take_it(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell("%channel other = of(1)")
    with pytest.raises(BodyError, match="other"):
        notebook.cell("%%process work(v) -> out from src\nout = (v, other)")


def test_nothing_declared_is_said(notebook: Notebook) -> None:
    with pytest.raises(NotRunError):
        notebook.run()


def test_a_cancelled_run_keeps_what_is_finished(notebook: Notebook, tmp_path: Path) -> None:
    release = tmp_path / "release"
    notebook.cell(f"gate = {str(release)!r}")
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(
        "%%process work(v) -> out from src\nimport pathlib, time\n"
        f"{notebook.mark('v')}\n"
        "while v == 2 and not pathlib.Path(gate).exists():\n    time.sleep(0.02)\n"
        "out = v"
    )
    notebook.cell("%channel flat = work.flat_map(lambda v: [v, -v])")
    notebook.cell("%%process each(v) -> w from flat\nw = v")
    notebook.trace.write_text("")
    run = notebook.session.start()
    while run.counts().get("completed", 0) < 3:
        assert not run.wait(0.02)
    assert run.progress().places[1].expected is None  # more may come
    run.cancel()
    assert run.wait(PATIENCE_S)
    assert run.status is RunStatus.CANCELLED
    assert run.progress().places[1].expected == 2  # none will
    with pytest.raises(RunError, match="cancelled"):
        run.raise_for_status()
    assert list(run["work"]) == [1]
    release.touch()
    notebook.run()
    assert notebook.ran() == ["2"]


def test_try_runs_in_this_process_and_keeps_nothing(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.cell("%channel grid = product(depth=[2, 4])")
    notebook.cell("%%process fit from grid\nprint('depth is', depth)\nscore = depth * 2")
    result = notebook.session.try_one("fit", "depth=4")
    assert result.outputs == {"score": 8}
    assert "depth is 4" in capsys.readouterr().out
    assert notebook.run().counts() == {"completed": 2}


def test_try_names_the_items_when_the_asked_one_is_not_there(notebook: Notebook) -> None:
    notebook.cell("%channel grid = product(depth=[2, 4])")
    notebook.cell("%%process fit from grid\nscore = depth * 2")
    with pytest.raises(UsageError, match="depth=2"):
        notebook.session.try_one("fit", "depth=5")


def test_a_parameter_holds_for_one_run(notebook: Notebook) -> None:
    notebook.cells(
        [
            "factor = 2",
            "%channel src = of(1, 2)",
            "%%process work(v) -> out from src\nout = v * factor",
        ]
    )
    run = notebook.session.start(parameters={"factor": "5"})
    assert run.wait(PATIENCE_S)
    assert list(run["work"]) == [5, 10]
    assert notebook.names["factor"] == 2
    assert list(notebook.run()["work"]) == [2, 4]


def test_a_later_edit_does_not_touch_a_run_that_goes_on(notebook: Notebook, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    notebook.cells(
        [
            "table = [1, 2, 3]",
            "%channel src = of(1, 2, 3)",
            "%%process slow(v) -> out from src\nimport pathlib, time\n"
            f"while not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.02)\n"
            "out = v + sum(table)",
        ]
    )
    run = notebook.session.start(detached=True)
    notebook.cell("table.append(1000)")
    gate.touch()
    assert run.wait(PATIENCE_S)
    assert list(run["slow"]) == [7, 8, 9]
    assert list(notebook.run()["slow"]) == [1007, 1008, 1009]


def test_the_cache_of_a_run_is_not_left_when_one_behind_it_is_cancelled(
    notebook: Notebook, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    notebook.cells(
        [
            "%channel src = of(1, 2, 3)",
            "%%process slow(v) -> out from src\nimport pathlib, time\n"
            f"while not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.02)\n"
            "out = v",
        ]
    )
    first, second = notebook.session.start(detached=True), notebook.session.start(detached=True)
    second.cancel()
    assert second.wait(PATIENCE_S)

    with pytest.raises(UsageError, match=f"run {first.name} is still going"):
        notebook.session.use("elsewhere")

    gate.touch()
    assert first.wait(PATIENCE_S)
    assert list(first["slow"]) == [1, 2, 3]
    notebook.session.use("elsewhere")


def test_an_undeclared_read_is_said_once_and_checked_at_the_next_run(
    notebook: Notebook, tmp_path: Path
) -> None:
    data = tmp_path / "table.csv"
    data.write_text("1,2")
    notebook.cell(f"folder = {str(tmp_path)!r}")
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(
        "%%process work(v) -> out from src\n"
        f"{notebook.mark('v')}\nout = open(folder + '/table' + '.csv').read()"
    )
    run = notebook.run()
    assert len([note for note in run.notes if "table.csv" in note]) == 1
    notebook.run()
    assert notebook.ran() == []
    data.write_text("3,4")
    notebook.run()
    assert notebook.ran() == ["1", "2"]


def test_a_damaged_result_heals_by_one_run(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(
        f"%%process big(v) -> out from src\n{notebook.mark('v')}\nout = bytes([v]) * 100_000"
    )
    run = notebook.run()
    blob = next(iter(run["big"].tasks[0].outputs or ())).blob  # type: ignore[attr-defined]
    path = notebook.session.cache.blobs.path(blob)
    path.chmod(0o644)
    path.write_bytes(b"short")
    notebook.run()
    assert notebook.ran() == ["1"]
    assert notebook.names["big"][0] == bytes([1]) * 100_000


def test_an_input_that_the_body_changes_in_place_is_passed_on_as_changed(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "import pandas as pd",
            "def grow(table):\n    table['b'] = 2",
            "%channel lists = of([3, 1, 2], [2, 1])",
            "%channel tables = of(pd.DataFrame({'a': [1]}))",
            f"%%process ordered(xs) from lists\n{notebook.mark('len(xs)')}\nxs.sort()\nxs",
            "%%process first(xs) -> xs, low from ordered\nlow = xs[0]",
            "%%process grown(t) -> t, n from tables\ngrow(t)\nn = 1",
            "%%process kept(t, n) -> t, n from grown\nn",
        ]
    )
    for ran in (["2", "3"], []):
        run = notebook.run()

        assert notebook.ran() == ran
        assert list(run["ordered"]) == [[1, 2, 3], [1, 2]]
        assert [(each.xs, each.low) for each in run["first"]] == [([1, 2, 3], 1), ([1, 2], 1)]
        for name in ("grown", "kept"):
            assert list(run[name].value.t.columns) == ["a", "b"]


def test_settings_that_cannot_be_written_are_said_with_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / "file" / "settings"))
    notebook = Notebook(tmp_path)
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src\nout = {v}")

    run = notebook.run()

    assert run["work"].value == {1}
    (note,) = run.notes
    assert "the next kernel will take the cache" in note
    assert str(tmp_path / "file") in note
    assert "NBCACHE_CONFIG_DIR=FOLDER" in note
    notebook.close()


def test_a_card_in_passing_is_counted_only_while_there_is_time_for_such_cards(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    k = "k = 3"
    notebook.cells([k, "%channel some = of(1, 2)", "%%process add(v) from some\nv + k"])
    session, add = notebook.session, notebook.names["add"]

    assert session.card(add, declared=True).plan is not None

    monkeypatch.setattr(session, "_allowance", spent := Allowance())
    spent.spend(10 * PATIENCE_S)
    view = session.card(add, declared=True)
    assert view.plan is None
    assert [each.name for each in view.captures] == ["k"]
    assert session.card(add).plan is not None  # somebody looks at it


@pytest.mark.parametrize("body", ["k + len(f.read_text())", "k + len(open('big.txt').read())"])
def test_a_card_reads_files_only_while_there_is_time(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    (notebook.folder / "big.txt").write_text("big")
    notebook.cells(["k = 3", '%channel f = value(path("big.txt"))'])
    notebook.cell(f"%%process add(f: path) -> out\nout = {body}")
    monkeypatch.setattr(describe, "COUNT_S", 0)

    view = notebook.session.card(notebook.names["add"])

    assert view.plan is None
    assert view.hindrances == ()
    assert notebook.session.plan()[0].to_run == 1
