"""Scripts as people write them: they go elsewhere, trap, exit early, hold arrays and odd text."""

from __future__ import annotations

import pytest

from nbcache.engine.running.run import Run
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook


def script(
    notebook: Notebook, body: str, outputs: str = "o", items: str = "1", how: str = "--bash"
) -> Run:
    notebook.cell(f"%channel src = of({items})")
    notebook.cell(f"%%process work(v) -> {outputs} from src {how}\n{body}")
    return notebook.run()


def test_a_script_that_goes_elsewhere_keeps_its_outputs(notebook: Notebook) -> None:
    elsewhere = notebook.folder / "elsewhere"
    elsewhere.mkdir()
    run = script(notebook, f"cd '{elsewhere}'\no=1")
    assert run["work"].value == "1"
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize(
    "body",
    [
        'trap "echo bye" EXIT\no=1\nexit 0',
        'trap "echo bye" INT EXIT TERM\no=1',
        'trap "exit 0" EXIT\no=1',
        "tidy() { echo bye; }; trap tidy 0\no=1",
        "trap - EXIT\no=1",
        'trap -p >/dev/null; trap "" PIPE\no=1',
    ],
)
def test_a_trap_of_the_script_loses_no_output(notebook: Notebook, body: str) -> None:
    run = script(notebook, body)
    assert run.status is RunStatus.SUCCEEDED, run.failures
    assert run["work"].value == "1"


def test_a_trap_of_the_script_sees_its_exit_code_and_the_task_fails(notebook: Notebook) -> None:
    traps = "trap 'echo \"code $?\"' EXIT\ntrap 'echo error' ERR\n"
    run = script(notebook, f"{traps}o=1\n(exit 7)")
    assert run.status is RunStatus.FAILED
    assert "exit code 7" in run.failures[0].error
    assert run.failures[0].log == "error\ncode 7"


def test_the_line_that_an_interpreter_names_is_that_of_the_cell(notebook: Notebook) -> None:
    bodies = {"bash": "o=1\necho ${none:?}", "sh": "o=1\nif then; fi", "python3": "o = 1\no / 0"}
    for name, body in bodies.items():
        notebook.cell(f"%%process in_{name}() -> o --script {name}\n#| tag: one\n{body}")

    notebook.cell("%%process silent() -> o --bash\no=1\nfalse")

    failures = {failure.process: failure for failure in notebook.run().failures}

    assert "`set -x` as its first line" in failures.pop("silent").way_out
    found = {name: failure.where for name, failure in failures.items()}
    assert found == {
        f"in_{name}": f"cell [{number}] line 4: {body.splitlines()[1]}"
        for number, (name, body) in enumerate(bodies.items(), 1)
    }


def test_an_array_is_never_cut_to_its_first_member(notebook: Notebook) -> None:
    run = script(notebook, 'o=(a "b c")')
    assert "declare `o: list[str]`" in run.failures[0].error
    run = script(notebook, 'o=(a "b c" "" $\'x\\ny\')', "o: list[str]")
    assert run["work"].value == ["a", "b c", "", "x\ny"]
    assert script(notebook, "o=()", "o: list[str]")["work"].value == []


def test_standard_output_may_be_the_output(notebook: Notebook) -> None:
    """BEHAVIOURS 9."""
    assert script(notebook, "echo $v", "stdout")["work"].value == "1\n"
    assert script(notebook, "echo 42", "stdout: int")["work"].value == 42
    assert script(notebook, "echo $v", "stdout", how="--script sh")["work"].value == "1\n"


def test_a_script_may_be_called_without_any_variable_being_too_long(notebook: Notebook) -> None:
    body = (
        "import json, os\n"
        'inputs = json.load(open(os.environ["NBCACHE_INPUTS"]))\n'
        "print(len(inputs['v']), 'v' in os.environ)"
    )
    run = script(notebook, body, "stdout", items='"x" * 3_000_000', how="--script python3")
    assert run["work"].value == "3000000 False\n"


def test_line_ends_of_another_system_are_no_part_of_a_script(notebook: Notebook) -> None:
    run = script(notebook, "o=1\r\necho hi\r")
    assert run["work"].value == "1"


def test_what_kills_a_script_is_said_once(notebook: Notebook) -> None:
    run = script(notebook, "echo last words\no=1\nkill -9 $$")
    assert run.failures[0].error.startswith("the script was killed by SIGKILL")
    with pytest.raises(Exception, match="SIGKILL") as caught:
        run.raise_for_status()
    assert str(caught.value).count("last words") == 1


def test_tracing_shows_the_script_only(notebook: Notebook) -> None:
    run = script(notebook, "set -x\no=1")
    ((_, _, chunks),) = run.shown("work")
    assert "".join(each.text for each in chunks) == "+ o=1\n"


@pytest.mark.parametrize("text", ["", " ", "-n", "*", "~", "q\"'\n\té🙂\\`x`$(touch pwn)"])
def test_text_passes_through_a_script_unchanged(notebook: Notebook, text: str) -> None:
    notebook.names["text"] = text
    run = script(notebook, 'o="$v"', items="text")
    assert run["work"].value == text
    assert not list(notebook.folder.rglob("pwn"))


def test_background_processes_of_a_script_end_with_it(notebook: Notebook) -> None:
    run = script(notebook, "sleep 300 & disown\nsetsid nohup sleep 300 >/dev/null 2>&1 &\no=1")
    assert run["work"].value == "1"
