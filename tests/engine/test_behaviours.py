"""The behaviours that a pipeline engine has to hold (the numbers are those of the list), each in
a real session with real workers; "again" is another kernel on the same cache."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nbcache.engine.performing import machine
from nbcache.errors import RunError
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S, wait_until

Kernels = Callable[[], Notebook]
ODD_NAMES = (
    b"a b", b"q'uote", b'd"q', b"$(touch x)", b"new\nline", b"-dash", b"nonutf\xff", b"br[a]ck",
    b"star*", b"q?m", b"back\\slash", b"semi;colon", b"tab\t", b"~tilde", b"#hash", b"{x}",
    b"a%b", b" lead", b"trail ",
)  # fmt: skip


def stdout(notebook: Notebook, place: str) -> list[str]:
    run = notebook.session.last_run
    assert run is not None
    return ["".join(each.text for each in chunks) for _, _, chunks in run.shown(place)]


def test_1_again_every_task_is_a_hit_and_what_it_printed_is_shown(kernels: Kernels) -> None:
    first, second = kernels(), kernels()
    for each in (first, second):
        each.cell("%channel src = of(1, 2)")
        each.cell("%%process one(v) -> a from src\nprint('one', v)\na = v + 1")
        each.cell("%%process two(a) -> b from one --bash\necho two $a\nb=$a")
        each.run()
    assert second.session.last_run.counts() == {"cached": 4}  # type: ignore[union-attr]
    assert stdout(second, "one") == stdout(first, "one") == ["one 1\n", "one 2\n"]
    assert stdout(second, "two") == stdout(first, "two") == ["two 2\n", "two 3\n"]


def test_3_a_parameter_that_one_of_two_reads_runs_it_and_what_lies_below(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "%channel src = of(1)",
            "scale = 2",
            f"%%process a(v) -> x from src\n{notebook.mark(repr('a'))}\nx = v",
            f"%%process b(x) -> y from a\n{notebook.mark(repr('b'))}\ny = x * scale",
            f"%%process c(y) -> z from b\n{notebook.mark(repr('c'))}\nz = y",
        ]
    )
    notebook.run()
    notebook.cell("scale = 3")
    notebook.run()
    assert notebook.ran() == ["b", "c"]
    notebook.cell("scale = 2")
    assert notebook.run().counts() == {"cached": 3}


@pytest.mark.parametrize("option", ["--cpus 2", '--memory "1GB * v"', "--time 1h"])
def test_4_resources_alone_change_nothing_that_is_kept(notebook: Notebook, option: str) -> None:
    notebook.cell("%channel src = of(1, 2)")
    text = "echo $cpus $task_memory $task_index\no=$v"
    notebook.cell(f"%%process work(v) -> o from src --bash\n{text}")
    notebook.run()
    notebook.cell(f"%%process work(v) -> o from src --bash {option}\n{text}")
    assert notebook.run().counts() == {"cached": 2}


def test_4_resources_from_the_size_of_an_input_are_hits_again(kernels: Kernels) -> None:
    for again in (False, True):
        notebook = kernels()
        (notebook.folder / "data").mkdir(exist_ok=True)
        (notebook.folder / "data/f").write_text("12345678")
        notebook.cell('%channel src = from_path("data/f", "data")')
        notebook.cell(
            '%%process one(f: path) -> o: path = "o", m from src --bash '
            '--memory "200MB + 1MB * f.size"\ncp -rL "$f" o; m=$task_memory'
        )
        notebook.cell(
            '%%process two(o: path) -> m from one --memory "200MB + o.size" --time "20s * o.size"\n'
            "m = task.memory"
        )
        run = notebook.run()
        assert run.counts() == {"cached" if again else "completed": 4}, run.failures
        assert [each[1] for each in run["one"]] == ["208000000"] * 2
        assert list(run["two"]) == [200_000_008] * 2


def test_5_a_success_after_two_failures_is_a_hit_and_each_attempt_has_a_row(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel src = of(7)")
    notebook.cell(
        "%%process flaky(v) -> out from src --retries 3\n"
        "if task.attempt < 3:\n    raise ValueError\nout = v"
    )
    notebook.run()
    assert notebook.run().counts() == {"cached": 1}


def test_6_ignored_failures_run_again_and_successes_are_hits(kernels: Kernels) -> None:
    for again in (False, True):
        notebook = kernels()
        notebook.cell("%channel src = from_iterable(range(6))")
        notebook.cell(
            "%%process work(v) -> out from src --on_error ignore\n"
            f"{notebook.mark('v')}\nif v % 2:\n    raise ValueError\nout = v"
        )
        run = notebook.run()
        assert run.status is RunStatus.SUCCEEDED
        assert notebook.ran() == (["1", "3", "5"] if again else list("012345"))


def test_9_outputs_from_stdout_a_variable_a_command_and_a_file(kernels: Kernels) -> None:
    def values(answer: str) -> tuple[dict[str, int], list[object]]:
        notebook = kernels()
        notebook.cell("%channel src = of(1)")
        notebook.cell(
            '%%process work(v) -> stdout, variable, answer, kept: path = "f.txt" from src '
            f'--bash\necho printed $v\nvariable="a b"\nanswer=$({answer})\necho file > f.txt'
        )
        run = notebook.run()
        made = list(run["work"].value)
        return run.counts(), [*made[:3], made[3].read_text()]

    wanted = ["printed 1\n", "a b", "4", "file\n"]
    assert values("expr 2 + 2") == ({"completed": 1}, wanted)
    assert values("expr 2 + 2") == ({"cached": 1}, wanted)
    assert values("expr 1 + 3")[0] == {"completed": 1}


def test_10_an_optional_output_that_is_missing_runs_nothing_below(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(
        '%%process make(v) -> o: path | None = "o.txt" from src --bash\n'
        'if [ "$v" = 2 ]; then echo 2 > o.txt; fi'
    )
    notebook.cell("%%process read(o: path) -> t from make\nt = o.read_text()")
    for counts in ({"completed": 3, "skipped": 1}, {"cached": 3, "skipped": 1}):
        run = notebook.run()
        assert run.counts() == counts
        assert list(run["read"]) == ["2\n"]


def test_10_a_required_output_that_is_missing_names_what_was_there(notebook: Notebook) -> None:
    notebook.cell('%%process make() -> o: path = "o.txt" --bash\ntouch other.txt')
    (failure,) = notebook.run().failures
    assert "no file o.txt" in failure.error
    assert "other.txt" in failure.error


@pytest.mark.parametrize("language", ["bash", "python"])
def test_11_odd_file_names_come_through_unchanged(kernels: Kernels, language: str) -> None:
    bodies = {
        "bash": ' --bash\ncp -- "$f" "out_$(printf %s "${f#./}"; echo x)"\n'
        'for each in out_*; do mv -- "$each" "${each%x}"; done',
        "python": '\n(f.parent / ("out_" + f.name)).write_bytes(f.read_bytes())',
    }
    for again in (False, True):
        notebook = kernels()
        data = notebook.folder / "data"
        data.mkdir(exist_ok=True)
        for number, name in enumerate(ODD_NAMES):
            (data / os.fsdecode(name)).write_text(str(number))
        notebook.cell('%channel src = from_path("data/*")')
        notebook.cell(f'%%process copy(f: path) -> o: path = "out_*" from src{bodies[language]}')
        notebook.cell("%%process read(o: path) -> t from copy\nt = (o.name, o.read_text())")
        run = notebook.run()
        assert set(run["read"]) == {
            ("out_" + os.fsdecode(name), str(number)) for number, name in enumerate(ODD_NAMES)
        }
        assert run.counts() == {"cached" if again else "completed": 2 * len(ODD_NAMES)}


def test_11_nested_globs_and_folders(notebook: Notebook) -> None:
    notebook.cell(
        '%%process make() -> o: list[path] = "**/*.txt", d: path = "a" --bash\n'
        "mkdir -p 'a/b c'; touch 'a/b c/x.txt' a/y.txt z.txt .hidden.txt"
    )
    run = notebook.run()
    made, folder = run["make"].value
    assert sorted(each.name for each in made) == ["x.txt", "y.txt", "z.txt"]
    assert sorted(each.name for each in folder.rglob("*")) == ["b c", "x.txt", "y.txt"]
    assert notebook.run().counts() == {"cached": 1}


def test_13_a_queue_combined_with_two_and_three_values(notebook: Notebook) -> None:
    notebook.cell("%channel items = of(1, 2)")
    notebook.cell('%channel grid = items.combine(of("x", "y")).combine(of(0.1, 0.2, 0.3))')
    notebook.cell("%%process work(a, b, c) -> out from grid\nout = (a, b, c)")
    assert notebook.run().counts() == {"completed": 12}
    assert notebook.run().counts() == {"cached": 12}


def test_14_a_value_channel_beside_a_queue(notebook: Notebook) -> None:
    notebook.cell(f"%%process ref() -> r\n{notebook.mark(repr('ref'))}\nr = 10")
    notebook.cell("%channel src = of(1, 2, 3)")
    notebook.cell(f"%%process use(v, r) -> out from src, ref\n{notebook.mark('v')}\nout = v * r")
    run = notebook.run()
    assert notebook.ran() == ["1", "2", "3", "ref"]
    assert list(run["use"]) == [10, 20, 30]


def test_15_16_17_gathers_do_not_depend_on_who_finishes_first(kernels: Kernels) -> None:
    delays = [0.0] * 4 + [0.1] * 4
    seen = []
    for _ in range(3):
        random.shuffle(delays)  # other code each time, so that all tasks run again
        notebook = kernels()
        notebook.cells(
            [
                "%channel src = from_iterable(range(8))",
                "%%process work(v) -> out from src\n"
                f"import time\ntime.sleep({delays!r}[v])\nout = v",
                "%channel groups = work.group_by(lambda out: out % 2)",
                "%channel pairs = work.buffer(3)",
                "%%process gathered(outs) -> a from work.collect()\na = list(outs)",
                "%%process grouped(key, outs) -> b from groups\nb = (key, list(outs))",
                "%%process buffered(outs) -> c from pairs\nc = list(outs)",
            ]
        )
        run = notebook.run()
        assert run.status is RunStatus.SUCCEEDED, run.failures
        seen.append([list(run[name]) for name in ("gathered", "grouped", "buffered")])
    assert seen[0] == seen[1] == seen[2]
    assert seen[0] == [
        [list(range(8))],
        [(0, [0, 2, 4, 6]), (1, [1, 3, 5, 7])],
        [[0, 1, 2], [3, 4, 5], [6, 7]],
    ]


def test_21_one_process_at_two_places_runs_once_for_equal_inputs(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of(1, 2)",
            "%channel other = of(2, 3)",
            f"%%process double(v) -> out\n{notebook.mark('v')}\nout = v * 2",
            "%channel left = double(src)",
            "%channel right = double(other)",
            "%%process add(a, b) -> c from left, right\nc = a + b",
        ]
    )
    run = notebook.run()
    assert run.status is RunStatus.SUCCEEDED, run.failures
    assert notebook.ran() == ["1", "2", "3"]
    assert list(run["add"]) == [6, 10]


def test_22_a_touched_file_is_a_hit_and_swapped_contents_are_not(notebook: Notebook) -> None:
    for name, text in (("x", "1"), ("y", "2")):
        (notebook.folder / name).mkdir()
        (notebook.folder / name / "data").write_text(text)
    notebook.cell('%channel src = from_path("x", "y")')
    notebook.cell(f"%%process work(d: path) -> out from src\n{notebook.mark('d.name')}\nout = 1")
    notebook.run()
    os.utime(notebook.folder / "x" / "data", (1, 1))
    assert notebook.run().counts() == {"cached": 2}
    (notebook.folder / "x" / "data").write_text("2")
    (notebook.folder / "y" / "data").write_text("1")
    assert notebook.run().counts() == {"completed": 2}


def test_24_finish_lets_running_tasks_end_and_starts_no_other(notebook: Notebook) -> None:
    begun, gate = notebook.folder / "begun", notebook.folder / "gate"
    notebook.cell("%channel src = from_iterable(range(8))")
    notebook.cell(
        "%%process work(v) -> out from src --on_error finish\nimport os, time\n"
        f"begun, gate = {str(begun)!r}, {str(gate)!r}\n"
        "if v == 0:\n    while not os.path.exists(begun):\n        time.sleep(0.01)\n"
        "    raise ValueError\n"
        "open(begun, 'w').close()\nwhile not os.path.exists(gate):\n    time.sleep(0.01)\nout = v"
    )
    run = notebook.session.start()
    wait_until(lambda: run.failures)
    gate.touch()
    assert run.wait(PATIENCE_S)
    assert run.status is RunStatus.FAILED
    counts = run.counts()
    assert counts["failed"] == 1
    assert counts["completed"] + counts["aborted"] == 7
    assert counts["completed"] < machine()[0]


def test_25_work_folders_are_never_results_nor_needed_by_hits(kernels: Kernels) -> None:
    first, second = kernels(), kernels()
    for each in (first, second):
        each.cell("%channel src = of(1)")
        each.cell('%%process work(v) -> o: path = "o.txt" from src --bash\necho $v > o.txt')
    first.run()
    left = first.session.cache.work
    shutil.rmtree(left)
    left.mkdir()
    (left / "abandoned").mkdir()
    (left / "abandoned" / "o.txt").write_text("from a crash")
    run = second.run()
    assert run.counts() == {"cached": 1}
    assert Path(str(run["work"].value)).read_text() == "1\n"


def test_a_cancelled_run_says_so_and_goes_on(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(0)")
    notebook.cell(
        "%%process work(v) -> out from src\nimport time\n"
        f"{notebook.mark('v')}\ntime.sleep(0 if v < 2 else 600)\nout = v"
    )
    notebook.run()
    notebook.cell("%channel src = of(1, 2)")
    notebook.trace.write_text("")
    run = notebook.session.start()
    while run.counts() != {"completed": 1}:
        assert not run.wait(0.02)
    run.cancel()
    assert run.wait(PATIENCE_S)
    assert run.counts() == {"completed": 1, "aborted": 1}
    assert run.reasons == {"work": "new input: no earlier task has v 1"}  # of what did run
    with pytest.raises(RunError, match="1 finished"):
        run.raise_for_status()
    assert list(run["work"]) == [1]
