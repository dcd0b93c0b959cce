"""One attempt: what a body sees, what it shows, what its script gets and gives, how it fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcache.engine.executors.local import LocalExecutor
from nbcache.engine.identity.payload import pickle_names, write_buffers
from nbcache.engine.spec import AttemptReport, ModuleSource
from nbcache.engine.work.shown import decode_chunks
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.process import Input, Output, PortType
from nbcache.model.value import Gathered, Stored
from nbcache.model.view import ShownChunk
from tests.engine.attempts import PATH, PATHS, Bench, file_input


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("attempts") / "cache"
    bench = Bench(root, lambda root: LocalExecutor(root, workers=1))
    yield bench
    bench.close()


def shown(bench: Bench, report: AttemptReport) -> list[ShownChunk]:
    assert report.row is not None
    held = report.row.shown
    if held is None:
        return []
    return decode_chunks(held.inline or bench.cache.blobs.read(held.blob or Digest("")))


def printed(bench: Bench, report: AttemptReport) -> str:
    return "".join(chunk.text for chunk in shown(bench, report))


# ---------------------------------------------------------------- python bodies


def test_the_final_expression_is_the_output_that_the_body_does_not_set(bench: Bench) -> None:
    assert bench.value(bench.process("z = x * 2\nz + 1", "result"), {"x": 4}) == 9


@pytest.mark.parametrize(
    ("body", "is_tree"),
    [
        ("import os, shutil\nos.mkdir('d')\nopen('f', 'w').close()\nshutil.copy('f', 'd/f')", True),
        ("import os\nos.mkdir('d')\nopen('e', 'w').close()\n'e'", False),
        ("from pathlib import Path\nPath('d').mkdir()\nPath('d/e').touch()\nPath('d/e')", False),
        ("open('e', 'w').close()\n'e'", False),
    ],
)
def test_a_path_output_is_the_path_that_comes_last_unless_that_only_says_where_a_copy_went(
    bench: Bench, body: str, is_tree: bool
) -> None:
    held = bench.run(bench.process(body, [Output("d", PATH)])).outputs["d"]

    assert isinstance(held, Stored)
    assert (held.kind == "tree", held.name) == (is_tree, "d" if is_tree else "e")


def test_a_final_assignment_is_the_output_of_its_name(bench: Bench) -> None:
    assert bench.value(bench.process("score = 3", "score")) == 3


def test_several_outputs_are_kept_under_their_names(bench: Bench) -> None:
    report = bench.run(bench.process("a = 1\nb = 'two'", [Output("a"), Output("b")]))

    assert {name: bench.decoded(held) for name, held in report.outputs.items()} == {
        "a": 1,
        "b": "two",
    }


def test_functions_of_the_body_see_its_globals(bench: Bench) -> None:
    body = "n = 2\ndef double(v):\n    return v * n\ny = double(x)"

    assert bench.value(bench.process(body), {"x": 5}) == 10


def test_top_level_await_works_in_statements_and_in_the_final_expression(bench: Bench) -> None:
    body = (
        "import asyncio\nasync def f(v):\n    await asyncio.sleep(0)\n    return v\n"
        "a = await f(1)\na + await f(2)"
    )

    assert bench.value(bench.process(body, "result")) == 3


def test_the_name_of_the_module_is_main_as_in_a_cell(bench: Bench) -> None:
    assert bench.value(bench.process("if __name__ == '__main__':\n    y = 'main'")) == "main"


def test_a_dataclass_of_the_body_can_be_used_and_its_instances_kept_as_values(bench: Bench) -> None:
    body = (
        "from __future__ import annotations\nfrom dataclasses import dataclass, asdict\n"
        "@dataclass\nclass P:\n    a: int\ny = asdict(P(3))"
    )

    assert bench.value(bench.process(body)) == {"a": 3}


def test_the_task_is_there_to_ask(bench: Bench) -> None:
    process = bench.process("y = [task.attempt, task.cpus, task.index, task.process]", name="fit")
    report = bench.run(process, attempt=2, cpus=3, index=5)

    assert bench.decoded(report.outputs["y"]) == [2, 3, 5, "fit"]


def test_a_captured_name_wins_over_task(bench: Bench) -> None:
    assert bench.value(bench.process("y = task", captured={"task": "mine"})) == "mine"


def test_large_captured_arrays_are_mapped_read_only(bench: Bench, tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    names = {"table": numpy.arange(300_000)}
    payload = pickle_names(names, names)
    buffers = tuple(map(str, write_buffers(payload.buffers, tmp_path)))
    process = bench.process(
        "y = [int(table.sum()), table.flags.writeable]", payload=payload.data, buffers=buffers
    )

    assert len(buffers) == 1
    assert bench.value(process) == [sum(range(300_000)), False]


def test_a_forgotten_process_can_be_prepared_again(bench: Bench) -> None:
    process = bench.process("y = 1")
    assert bench.value(process) == 1

    bench.executor.forget(process.key)
    bench.executor.prepare(process)

    assert bench.value(process) == 1


def test_a_body_starts_in_an_empty_folder(bench: Bench) -> None:
    assert bench.value(bench.process("import os\ny = os.listdir('.')")) == []


def test_a_failure_names_the_line_of_the_cell_and_keeps_the_folder(bench: Bench) -> None:
    source = "%%process fit\n\nopen('left.txt', 'w').close()\nscore = 1 / rep"
    process = bench.process(
        source.split("\n", 2)[2],
        body_line=3,
        filename="<fit>",
        cells={"<fit>": "cell [4]"},
        sources={"<fit>": source},
    )
    report = bench.run(process, {"rep": 0})

    assert report.outcome == "failed"
    assert report.error == "ZeroDivisionError: division by zero"
    assert report.where == (4, "score = 1 / rep")
    assert report.traceback is not None
    assert report.traceback.splitlines()[1:3] == [
        "  cell [4], line 4, in <module>",
        "    score = 1 / rep",
    ]
    assert report.workdir is not None
    assert os.path.basename(report.workdir) == report.id
    assert [n for n in os.listdir(report.workdir) if not n.startswith(".command.")] == ["left.txt"]
    assert report.row is not None
    assert report.row.workdir == report.workdir


def test_an_output_that_was_never_set_is_said(bench: Bench) -> None:
    report = bench.run(bench.process("if x > 1:\n    y = 1\n"), {"x": 0})

    assert report.outcome == "failed"
    assert report.error == (
        "output 'y' was not made: the body never set it\n"
        "  set it in every case, to None where there is nothing to give"
    )
    assert report.undeclared


def test_sys_exit_is_a_failure_and_not_an_end_of_the_worker(bench: Bench) -> None:
    report = bench.run(bench.process("import sys\nsys.exit(3)"))

    assert (report.outcome, report.signal, report.exit) == ("failed", None, None)
    assert report.error == "SystemExit: 3"


def test_displays_are_kept_with_their_mime_types_in_order(bench: Bench) -> None:
    body = (
        "class Card:\n    def _repr_html_(self):\n        return '<b>hi</b>'\n"
        "    def __repr__(self):\n        return 'hi'\n"
        "print('before')\ndisplay(Card())\nprint('after')"
    )
    chunks = shown(bench, bench.run(bench.process(body, [])))

    assert [chunk.stream for chunk in chunks] == ["stdout", "display", "stdout"]
    assert chunks[1].bundle == {"text/html": "<b>hi</b>", "text/plain": "hi"}


def test_the_display_of_ipython_is_ours(bench: Bench) -> None:
    body = "from IPython.display import HTML, display\ndisplay(HTML('<i>x</i>'))"
    chunks = shown(bench, bench.run(bench.process(body, [])))

    assert [chunk.bundle.get("text/html") for chunk in chunks] == ["<i>x</i>"]


def test_warnings_and_tracebacks_in_what_is_shown_name_cells_and_no_temporary_files(
    bench: Bench,
) -> None:
    cell = "/tmp/ipykernel_12/3925077789.py"
    body = (
        "import sys, traceback, warnings\nwarnings.warn('cold')\n"
        "try: 1 / rep\nexcept ZeroDivisionError: traceback.print_exc(file=sys.stdout)\n"
        "print('x.py', '/tmp/ipykernel_12/other.py:2: ')\ny = 1"
    )
    process = bench.process(body, filename=cell, cells={cell: "cell [4]"}, sources={cell: body})
    report = bench.run(process, {"rep": 0})

    assert report.outcome == "completed", report.error
    text = "".join(chunk.text for chunk in shown(bench, report))
    assert text.startswith("cell [4], line 2: UserWarning: cold\n  warnings.warn('cold')\n")
    assert "\n  cell [4], line 3, in <module>\n" in text
    assert text.endswith("x.py /tmp/ipykernel_12/other.py:2: \n")


def test_figures_are_shown_and_not_kept_when_outputs_are_inferred(bench: Bench) -> None:
    body = "import matplotlib.pyplot as plt\nplt.plot([1, 2])"
    process = bench.process(body, "figure", inferred=True)
    report = bench.run(process)

    assert report.outcome == "completed", report.traceback
    assert bench.decoded(report.outputs["figure"]) is None
    (chunk,) = shown(bench, report)
    assert str(chunk.bundle["image/png"]).startswith("iVBOR")
    assert len(shown(bench, bench.run(process))) == 1  # the first one's figure was closed


def test_c_code_and_child_processes_are_captured(bench: Bench) -> None:
    body = (
        "import os, subprocess\nprint('one')\nos.write(1, b'two\\n')\n"
        "subprocess.run(['sh', '-c', 'echo three; echo four >&2'])\nprint('five')"
    )
    chunks = shown(bench, bench.run(bench.process(body, [])))

    out = "".join(chunk.text for chunk in chunks if chunk.stream == "stdout")
    assert out == "one\ntwo\nthree\nfive\n"
    assert [chunk.text for chunk in chunks if chunk.stream == "stderr"] == ["four\n"]


def test_much_output_is_cut_in_the_middle(bench: Bench) -> None:
    body = "print('first')\nfor _ in range(60):\n    print('x' * 100_000)\nprint('last')"
    text = printed(bench, bench.run(bench.process(body, [])))

    assert text.startswith("first\n")
    assert text.endswith("last\n")
    assert "characters left out" in text
    assert len(text) < 2_500_000


def test_a_forked_child_does_not_speak_for_the_worker(bench: Bench) -> None:
    body = (
        "import os\npid = os.fork()\nif pid == 0:\n    print('the', 'child')\n    os._exit(0)\n"
        "os.waitpid(pid, 0)\nprint('parent')\ny = 1"
    )
    report = bench.run(bench.process(body))

    assert report.outcome == "completed"
    assert sorted(printed(bench, report).splitlines()) == ["parent", "the child"]


def test_a_local_module_that_changed_since_the_run_began_fails_the_attempt(
    bench: Bench, tmp_path: Path
) -> None:
    module = tmp_path / "changed_helper.py"
    module.write_text("value = 2\n")
    process = bench.process(
        "import changed_helper\ny = changed_helper.value",
        sys_path=(str(tmp_path), *sys.path),
        modules={"changed_helper": ModuleSource(str(module), identity_digest(b"value = 1\n"))},
    )
    report = bench.run(process)

    assert report.outcome == "failed"
    assert "changed_helper" in (report.error or "")
    assert "changed after the run began" in (report.error or "")


def test_a_worker_serves_one_text_of_a_local_module(bench: Bench, tmp_path: Path) -> None:
    module = tmp_path / "versioned_helper.py"
    pids: list[int] = []
    values: list[int] = []
    for text in ("value = 1\n", "value = 2\n"):
        module.write_text(text)
        os.utime(module, (1e9 + len(values), 1e9 + len(values)))
        process = bench.process(
            "import os, versioned_helper\ny = [os.getpid(), versioned_helper.value]",
            sys_path=(str(tmp_path), *sys.path),
            modules={"versioned_helper": ModuleSource(str(module), identity_digest(text.encode()))},
        )
        pid, value = bench.value(process)
        pids.append(pid)
        values.append(value)

    assert values == [1, 2]
    assert pids[0] != pids[1]


def test_environment_and_secrets_reach_the_body(bench: Bench) -> None:
    process = bench.process(
        "import os\ny = [os.environ['MODE'], os.environ['TOKEN'][::-1]]",
        env={"MODE": "fast"},
        secrets={"TOKEN": "s3cret"},
    )

    assert bench.value(process) == ["fast", "terc3s"]


def test_a_secret_is_never_kept(bench: Bench) -> None:
    process = bench.process(
        "import os\nprint('using', os.environ['TOKEN'])\nraise ValueError(os.environ['TOKEN'])",
        secrets={"TOKEN": "s3cret"},
    )
    report = bench.run(process)

    assert printed(bench, report) == "using [secret]\n"
    assert report.error == "ValueError: [secret]"
    bench.cache.log.refresh()
    assert "s3cret" not in repr(bench.cache.log.find_attempt(report.id))


def test_asking_for_the_keyboard_says_what_to_do(bench: Bench) -> None:
    report = bench.run(bench.process("answer = [input][0]('name?')", name="ask"))

    assert report.outcome == "failed"
    assert "%nbcache try ask" in (report.error or "")


def test_a_task_of_asyncio_without_a_loop_says_what_to_do(bench: Bench) -> None:
    body = "import asyncio\nasync def wait(): pass\nasyncio.create_task(wait())"

    report = bench.run(bench.process(body))

    assert "await asyncio.create_task(...)" in (report.error or "")


def test_a_missing_blob_of_an_input_is_reported_for_its_producer(bench: Bench) -> None:
    gone = Stored(
        digest=Digest("xxh3:00"),
        kind="value",
        codec="json",
        size=9000,
        blob=Digest("b3:" + "0" * 64),
    )
    report = bench.run(bench.process("y = x"), {"x": gone})

    assert report.missing == gone.blob
    assert report.row is None


# ---------------------------------------------------------------- scripts


def test_a_script_gets_shell_variables_and_its_own_are_outputs(bench: Bench) -> None:
    process = bench.script(
        'total=$((a + b))\necho "$word"',
        [Output("total", PortType("int"))],
        inputs=(Input("a"), Input("b"), Input("word")),
    )
    report = bench.run(process, {"a": 2, "b": 3, "word": "hello"})

    assert bench.decoded(report.outputs["total"]) == 5
    assert printed(bench, report) == "hello\n"
    assert report.exit == 0


NASTY = [
    "a b",
    "it's",
    '"q"',
    "$(touch x)",
    "`touch x`",
    "a\nb",
    "-n",
    "*",
    "\\",
    "é",
    "",
    "a;b&c|d",
]


def test_values_are_only_values_whatever_they_hold(bench: Bench) -> None:
    process = bench.script(
        'y="$x"\nshopt -s nullglob\nfiles=(*)\ncount=${#files[@]}', [Output("y"), Output("count")]
    )
    for text in NASTY:
        report = bench.run(process, {"x": text})
        assert report.outcome == "completed", report.error
        assert bench.decoded(report.outputs["y"]) == text
        assert bench.decoded(report.outputs["count"]) == "0"


def test_lists_are_arrays_both_ways(bench: Bench) -> None:
    process = bench.script(
        'y=("${words[@]}" "end")\nempty=()',
        [Output("y", PortType("str", depth=1)), Output("empty", PortType("str", depth=1))],
    )
    report = bench.run(process, {"words": NASTY})

    assert report.outcome == "completed", report.error
    assert bench.decoded(report.outputs["y"]) == [*NASTY, "end"]
    assert bench.decoded(report.outputs["empty"]) == []


def test_odd_file_names_are_only_file_names(bench: Bench, tmp_path: Path) -> None:
    names = [name for name in NASTY if name] + [os.fsdecode(b"bad\xff.txt"), "[ab]?"]
    process = bench.script('cat -- "$f" > out', [Output("y", PATH, "out")])
    for name in names:
        path = tmp_path / name
        path.write_text(f"content of {name!r}")
        report = bench.run(process, {"f": file_input(path)})
        assert report.outcome == "completed", (name, report.error)
        assert bench.decoded(report.outputs["y"]) == f"content of {name!r}"


def test_odd_output_names_come_out_under_their_names(bench: Bench) -> None:
    body = (
        "import os\nfor name in names:\n"
        "    open(os.path.join(os.fsencode('.'), name), 'wb').write(name)"
    )
    names = sorted([os.fsencode(name) for name in NASTY if name] + [b"bad\xff"])
    report = bench.run(bench.process(body, [Output("y", PATHS, "*")]), {"names": names})

    held = report.outputs["y"]
    assert isinstance(held, Gathered)
    assert [os.fsencode(each.name) for each in held] == names  # type: ignore[attr-defined]
    bench.cache.log.refresh()
    row = bench.cache.log.find_attempt(report.id)
    assert row is not None
    assert row.outputs == report.row.outputs  # type: ignore[union-attr]


def test_exit_0_in_the_middle_keeps_the_variables(bench: Bench) -> None:
    process = bench.script("y=early\nexit 0\ny=late", [Output("y")])

    assert bench.value(process) == "early"


def test_a_trap_of_the_script_s_own_leaves_the_outputs(bench: Bench) -> None:
    process = bench.script("trap 'echo bye' EXIT\ny=1", [Output("y", PortType("int"))])
    report = bench.run(process)

    assert bench.decoded(report.outputs["y"]) == 1
    assert printed(bench, report) == "bye\n"


def test_a_failing_script_says_its_exit_code_and_last_lines(bench: Bench) -> None:
    report = bench.run(bench.script("echo working\necho 'no such genome' >&2\nfalse\necho never"))

    assert (report.outcome, report.exit) == ("failed", 1)
    assert report.error is not None
    assert "exit code 1" in report.error
    assert "no such genome" in report.error
    assert "never" not in report.error
    assert report.workdir is not None
    assert os.path.exists(os.path.join(report.workdir, ".command.sh"))


def test_a_script_that_dies_of_a_signal_names_it(bench: Bench) -> None:
    report = bench.run(bench.script("kill -SEGV $$"))

    assert (report.outcome, report.signal) == ("failed", "SIGSEGV")
    assert "SIGSEGV" in (report.error or "")


def test_an_unset_variable_output_is_named(bench: Bench) -> None:
    report = bench.run(bench.script("true", [Output("count")]))

    assert report.outcome == "failed"
    assert "the script never set the variable count" in (report.error or "")


def test_stdout_can_be_an_output(bench: Bench) -> None:
    assert bench.value(bench.script("printf 'a\\nb'", [Output("stdout")])) == "a\nb"


def test_none_is_empty_and_optional_outputs_may_be_missing(bench: Bench) -> None:
    process = bench.script(
        'test -z "$x"',
        [Output("f", PortType("path", optional=True)), Output("v", PortType("str", optional=True))],
    )
    report = bench.run(process, {"x": None})

    assert report.outcome == "completed", report.error
    assert [bench.decoded(held) for held in report.outputs.values()] == [None, None]


def test_other_interpreters_get_environment_and_json(bench: Bench) -> None:
    body = (
        "import json, os\n"
        "inputs = json.load(open(os.environ['NBCACHE_INPUTS']))\n"
        "assert os.environ['word'] == inputs['word'] == 'a b'\n"
        "json.dump({'y': inputs['numbers']}, open(os.environ['NBCACHE_OUTPUTS'], 'w'))"
    )
    process = bench.script(body, [Output("y")], interpreter=(sys.executable,))

    assert bench.value(process, {"word": "a b", "numbers": [1, 2]}) == [1, 2]


def test_an_interpreter_that_is_not_there_is_named(bench: Bench) -> None:
    report = bench.run(bench.script("x", interpreter=("no-such-interpreter",)))

    assert report.outcome == "failed"
    assert "cannot start 'no-such-interpreter'" in (report.error or "")


def test_a_value_that_no_shell_can_hold_is_refused(bench: Bench) -> None:
    report = bench.run(bench.script("true"), {"x": {"a": object}})

    assert report.outcome == "failed"
    assert "input 'x[a]' is a type: a script takes text" in (report.error or "")


def test_line_numbers_of_bash_are_those_of_the_script(bench: Bench) -> None:
    report = bench.run(bench.script("true\ntrue\nno-such-command"), {"x": "a\nb"})

    assert "line 3: no-such-command" in (report.error or "")
    assert report.exit == 127
