"""What a script gives: the answer of a command, as many files as declared; lines around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nbcache.engine.running.run import Run
from nbcache.errors import DeclarationError
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook


def script(notebook: Notebook, header: str, body: str = "true", how: str = "--bash") -> Run:
    notebook.cell(f"%%process work{header} {how}\n{body}")
    return notebook.run()


def error_of(run: Run) -> str:
    assert run.status is RunStatus.FAILED
    return run.failures[0].error


def test_9_the_answer_of_a_command_is_an_output_and_its_text_counts(
    kernels: Callable[[], Notebook],
) -> None:
    for again in (False, True):
        run = script(
            kernels(),
            '(v = "a b") -> n: int = "$(wc -l < made.txt)", said = "$(echo $v; echo)"',
            "printf '1\\n2\\n' > made.txt",
        )
        assert run.counts() == {"cached" if again else "completed": 1}, run.failures
        assert tuple(run["work"].value) == (2, "a b")
    edited = '(v = "a b") -> n: int = "$(wc -w < made.txt)", said = "$(echo $v; echo)"'
    run = script(kernels(), edited, "printf '1\\n2\\n' > made.txt")
    assert run.counts() == {"completed": 1}


def test_another_interpreter_has_the_answers_of_commands_too(notebook: Notebook) -> None:
    run = script(
        notebook, '(v = "x") -> said = "$(cat f.txt; echo $v)"',
        "open('f.txt', 'w').write('hello')",
        "--script python3",
    )  # fmt: skip
    assert run["work"].value == "hellox"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exit 4", "ended with exit code 4"),
        ("cat not-there", "ended with exit code 1"),
        ("echo x", "declared as int"),
    ],
)
def test_a_command_that_fails_fails_the_task(notebook: Notebook, command: str, said: str) -> None:
    assert said in error_of(script(notebook, f'() -> n: int = "$({command})"'))


def test_a_tool_that_only_a_command_names_counts(notebook: Notebook, tmp_path: Path) -> None:
    run = script(notebook, '() -> said = "$(expr 1 + 1)"')
    (place,) = [p for p in notebook.session.prepare().places.values() if p.name == "work"]
    assert ("tool", "expr") in {each.key for each in place.shared.components}
    assert run["work"].value == "2"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ('%%process p() -> n = "$(date)"\nx = 1', "a command's answer is for scripts"),
        ('%%process p() -> n = "x.txt" --bash\ntrue', "only a path has a file name"),
        ('%%process p() -> n = "$()" --bash\ntrue', "only a path has a file name"),
        ("%%process p() -> n: list[path, 0] --bash\ntrue", "is not a type"),
        ("%%process p() -> n: list[path, 3, 2] --bash\ntrue", "list[path, 1, ...]"),
        ("%%process p() -> n: list[path, two] --bash\ntrue", "is not a type"),
        ("%%process p() -> n --before 'x=1'\nn = 1", "is for scripts"),
    ],
)
def test_what_cannot_be_is_told_when_the_cell_runs(
    notebook: Notebook, cell: str, said: str
) -> None:
    with pytest.raises(DeclarationError) as raised:
        notebook.cell(cell)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("count", "made", "said"),
    [
        ("2", 2, None),
        ("2", 1, "exactly 2 declared, but there are 1: f1.txt"),
        ("2", 3, "exactly 2 declared, but there are 3: f1.txt, f2.txt, f3.txt"),
        ("1, ...", 0, "1 or more declared, but there are 0"),
        ("1, ...", 3, None),
        ("2, 3", 4, "2 to 3 declared, but there are 4"),
        ("0, ...", 0, None),
    ],
)
def test_12_a_count_of_outputs_that_does_not_fit_fails_after_the_body(
    notebook: Notebook, count: str, made: int, said: str | None
) -> None:
    header = f'() -> fs: list[path, {count}] = "f*.txt"'
    run = script(notebook, header, f"for i in $(seq {made}); do touch f$i.txt; done")
    if said is None:
        assert len(run["work"].value) == made
    else:
        assert said in error_of(run)


def test_12_a_count_of_inputs_that_does_not_fit_fails_before_the_body(notebook: Notebook) -> None:
    for number in range(3):
        (notebook.folder / f"{number}.fq").touch()
    notebook.cell('%channel fs = from_path("*.fq").collect()')
    header = "(fs: list[path, {}]) -> n from fs"
    for count, fits in (("3", True), ("2", False), ("1, ...", True), ("4, 5", False)):
        notebook.cell(
            f"%%process work{header.format(count)}\n{notebook.mark(repr('ran'))}\nn = len(fs)"
        )
        run = notebook.run()
        if fits:
            assert run["work"].value == 3
        else:
            assert "declared, but there are 3" in error_of(run)
            assert "input 'fs'" in error_of(run)
            assert notebook.ran() == []


def test_12_counts_hold_for_values_too(notebook: Notebook) -> None:
    run = script(notebook, "() -> xs: list[str, 2]", "xs=(a b c)")
    assert "exactly 2 declared, but there are 3" in error_of(run)
    notebook.cell("%channel src = value([1, 2, 3])")
    notebook.cell("%%process take(src: list[int, 1, 2]) -> n\nn = len(src)")
    assert "1 to 2 declared, but there are 3" in error_of(notebook.run("take"))
    notebook.cell("%%process make() -> xs\nxs = [1, 2, 3]")
    notebook.cell("%%process use(xs: list[int, 2]) -> n from make\nn = len(xs)")
    assert "input 'xs': exactly 2 declared, but there are 3" in error_of(notebook.run("use"))


def test_12_one_path_is_exactly_one_and_a_list_may_be_of_one(notebook: Notebook) -> None:
    for number in range(2):
        (notebook.folder / f"{number}.fq").touch()
    notebook.cell('%channel fs = from_path("*.fq").collect()')
    notebook.cell('%channel one = value(path("0.fq"))')
    notebook.cell("%%process one_of(fs: path) -> n\nn = 1")
    assert "declared as one path, but the item is a list of 2" in error_of(notebook.run("one_of"))
    notebook.cell(
        "%%process whole_item(all: path) -> n from fs.map(lambda fs: {'fs': fs, 'k': 1})\nn = 1"
    )
    assert "the item has the fields fs, k\n" in error_of(notebook.run("whole_item"))
    notebook.cell("%%process as_list(one: list[path, 1]) -> n\nn = [f.name for f in one]")
    assert notebook.run("as_list")["as_list"].value == ["0.fq"]


def test_lines_before_a_script_hold_for_it_and_for_its_commands(notebook: Notebook) -> None:
    for how, body in (("--bash", "o=$GREETING"), ("--script python3", "print(1)")):
        run = script(
            notebook, '(v = "x") -> a = "$(echo $GREETING)"' + (", o" if "bash" in how else ""),
            f"#| before: export GREETING=\"hello $v\"\n#| before: echo before\n{body}", how,
        )  # fmt: skip
        assert run.status is RunStatus.SUCCEEDED, run.failures
        values = run["work"].value
        assert ([values] if isinstance(values, str) else list(values))[0] == "hello x"
    assert list(script(notebook, "() -> o", "#| before: x=7\no=$x")["work"]) == ["7"]


def test_lines_before_another_interpreter_change_its_environment(notebook: Notebook) -> None:
    body = "#| before: export GREETING=hi\nimport os\nprint(os.environ['GREETING'])"
    assert script(notebook, "() -> stdout", body, "--script python3")["work"].value == "hi\n"


def test_lines_after_a_script_run_also_when_it_failed(notebook: Notebook) -> None:
    left = notebook.folder / "left"
    run = script(notebook, "() -> o: path", f"#| after: touch '{left}'; echo made > o\ntrue")
    assert Path(str(run["work"].value)).read_text() == "made\n"
    left.unlink()
    run = script(notebook, "() -> o: path", f"#| after: touch '{left}'\nexit 3")
    assert "exit code 3" in error_of(run)
    assert left.exists()
    run = script(notebook, "() -> o: path", "#| after: exit 5\ntouch o")
    assert "--after ended with exit code 5" in error_of(run)


@pytest.mark.parametrize("how", ["--bash", "--script python3"])
def test_lines_after_a_script_see_what_the_lines_before_it_exported(
    notebook: Notebook, how: str
) -> None:
    body = (
        '#| before: echo once; set -x; export X=$\'ma\\nd"`e\' PATH="$PATH:/else"\n'
        '#| after: echo "$X" > o; [[ $PATH == *:/else ]]\nprint()'
    )
    body = body if "python" in how else body.replace("print()", "true")
    run = script(notebook, "() -> o: path", body, how)
    assert run.status is RunStatus.SUCCEEDED, error_of(run)
    assert Path(str(run["work"].value)).read_text() == 'ma\nd"`e\n'
    shown = [each.text for each in run.shown("work")[0][2] if each.stream == "stdout"]
    assert "".join(map(str, shown)).split() == ["once"]


def test_lines_before_that_end_the_script_run_once_and_those_after_it_run(
    notebook: Notebook,
) -> None:
    side = notebook.folder / "side"
    body = f"#| before: echo b >> '{side}'; exit 3\n#| after: echo a >> '{side}'\ntrue"
    run = script(notebook, "() -> o: path", body)
    assert "exit code 3" in error_of(run)
    assert side.read_text() == "b\na\n"


@pytest.mark.parametrize(
    ("outputs", "body"),
    [
        ("o: path", 'rm -r "$PWD"'),
        ("o", 'rm -r "$PWD"; o=1'),
        ("o: path", '#| after: true\nrm -r "$PWD"; exit 3'),
    ],
)
def test_a_script_that_removes_its_own_folder_is_told_so(
    notebook: Notebook, outputs: str, body: str
) -> None:
    assert "the task removed the folder that it runs in" in error_of(
        script(notebook, f"() -> {outputs}", body)
    )


def test_lines_around_a_script_count(notebook: Notebook) -> None:
    counts = [
        script(notebook, "() -> o", f"{lines}o=1").counts()
        for lines in ("", "#| before: x=1\n", "#| before: x=2\n", "#| after: x=2\n", "")
    ]
    assert counts == [{"completed": 1}] * 4 + [{"cached": 1}]


def test_lines_before_that_fail_fail_the_task(notebook: Notebook) -> None:
    for how in ("--bash", "--script python3"):
        run = script(notebook, "() -> stdout", "#| before: false\necho=1", how)
        assert "the lines of --before ended with exit code 1" in error_of(run)
        run = script(notebook, "() -> stdout", "#| before: cd /\nexit(3)", how)
        assert "the script ended with exit code" in error_of(run)


@pytest.mark.parametrize("ending", ["", "\nexit 0", "\ntrap 'echo bye' TERM", "\nset -eu"])
def test_variables_of_a_plain_shell_are_outputs(notebook: Notebook, ending: str) -> None:
    notebook.cell("%channel words = of(\"it's\", 'a\\nb')")
    notebook.cell(
        "%%process work(word) -> said, size: int from words\n#!/bin/sh\n"
        f'said="hello $word"\nsize=${{#word}}{ending}'
    )
    run = notebook.run()

    assert run.status is RunStatus.SUCCEEDED, run.message
    assert [tuple(each) for each in run["work"]] == [("hello it's", 4), ("hello a\nb", 3)]


def test_a_plain_shell_ends_as_its_script_does_and_counts_its_lines(notebook: Notebook) -> None:
    run = script(notebook, "() -> x", "x=1\nset -eu\necho $missing\nx=2", "--script sh")

    assert "exit code 2" in error_of(run)
    assert ".command.sh: 3:" in error_of(run) or "line 3" in error_of(run)


def test_a_script_that_is_for_no_shell_is_told_where_values_go(notebook: Notebook) -> None:
    run = script(notebook, "() -> x", "x = 1", "--script python3")

    assert (
        "into the file $NBCACHE_OUTPUTS.\n  A script for python3 gives values there, as JSON"
        in (error_of(run))
    )


@pytest.mark.parametrize(
    ("how", "body"), [("", "if v > 1:\n    z = v"), ("--bash", "if [ $v -gt 1 ]; then z=$v; fi")]
)
def test_10_an_optional_value_that_was_not_made_leaves_out_what_is_below(
    kernels: Callable[[], Notebook], how: str, body: str
) -> None:
    for again in (False, True):
        notebook = kernels()
        notebook.cells(
            [
                "%channel src = of(1, 2)",
                f"%%process made(v) -> v, z: int | None from src {how}\n{body}",
                "%%process strict(v, z) -> w from made\nw = z",
                "%%process lax(v, z: int | None) -> w from made\nw = [z]",
                "%%process said(v) -> n: int | None from src\nn = None",
                "%%process below(n) -> w from said\nw = n",
            ]
        )
        run = notebook.run()

        assert run.status is RunStatus.SUCCEEDED, run.message
        done = {"cached" if again else "completed": 9, "skipped": 1}
        if not again:  # the two tasks below `said` are one
            done = {"completed": 8, "cached": 1, "skipped": 1}
        assert run.counts() == done
        assert list(run["strict"]) == [2]
        assert list(run["lax"]) == [[None], [2]]
        assert list(run["below"]) == [None, None]
