"""Several scripts under one header, of which a task runs the first whose condition holds."""

from __future__ import annotations

import pytest

from nbcache.engine.record.explanations import why
from nbcache.engine.repeat import repeat
from nbcache.errors import DeclarationError
from nbcache.model.row import AttemptRow
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S

CELL = """%%process align(mode, reads: path = "reads.txt") -> made: path = "made.txt" from modes
#| bash:
#| if: mode == "sorted"
{trace}sort "$reads" > made.txt
#| elif: reads.size > 5 and mode == "python"
#!/usr/bin/env python3
import os
text = open(os.environ["reads"]).read()
open("made.txt", "w").write(text.upper())
#| else:
{trace}tac "$reads" > made.txt
#| stub:
touch made.txt"""


@pytest.fixture
def aligned(notebook: Notebook) -> Notebook:
    (notebook.folder / "reads.txt").write_text("b\na\nc\n")
    notebook.cell('%channel modes = of("sorted", "python", "backwards")')
    notebook.cell(cell(notebook))
    notebook.run()
    return notebook


def cell(notebook: Notebook) -> str:
    return CELL.format(trace=f'echo "$mode" >> {notebook.trace}; ')


def texts(notebook: Notebook) -> list[str]:
    run = notebook.session.last_run
    assert run is not None
    return [each.read_text() for each in run["align"]]


def test_each_task_runs_the_script_of_its_condition(aligned: Notebook) -> None:
    assert texts(aligned) == ["a\nb\nc\n", "B\nA\nC\n", "c\na\nb\n"]
    assert aligned.run().counts() == {"cached": 3}


def test_an_edit_of_one_script_runs_its_tasks_alone_and_says_which(aligned: Notebook) -> None:
    aligned.cell(cell(aligned).replace("tac", "tac --"))
    (plan,) = aligned.session.plan()
    assert (plan.to_run, plan.cached) == (1, 2)

    run = aligned.run()

    assert aligned.ran() == ["backwards"]
    assert "the script for else changed" in run.reasons["align"]
    told = why(aligned.session.cache, ["align", "2"])
    assert "the code of align changed" in told.head
    aligned.cell(cell(aligned).replace("tac", "tac -s '\\n'").replace('sort "', 'sort -b "'))
    (plan,) = aligned.session.plan()
    assert "the script for else changed" in plan.reason
    assert "and the script for mode ==" in plan.reason
    assert aligned.run().reasons["align"] == plan.reason


def test_what_another_script_calls_is_no_component_of_a_task(aligned: Notebook) -> None:
    rows = [row for row in aligned.session.cache.log.rows() if isinstance(row, AttemptRow)]
    tools = {
        row.position: {each.name for each in row.components if each.kind == "tool"} for row in rows
    }
    assert "sort" in tools["0"]
    assert "python3" in tools["1"]
    assert "tac" in tools["2"]
    assert not tools["0"] & tools["2"]


def test_a_script_shares_its_results_with_a_process_that_has_only_this_one(
    aligned: Notebook,
) -> None:
    aligned.cell('%channel modes = of("backwards")')
    header = '%%process other(mode, reads: path = "reads.txt") -> made: path = "made.txt"'
    aligned.cell(
        f'{header} from modes --bash\necho "$mode" >> {aligned.trace}; tac "$reads" > made.txt'
    )
    assert aligned.run("other").counts() == {"cached": 1}


def test_a_resume_says_which_script_was_edited(
    aligned: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    aligned.cell(cell(aligned).replace("tac ", "false; tac "))
    assert aligned.run().status is RunStatus.FAILED
    aligned.cell(cell(aligned))

    run = aligned.session.resume()
    assert run.wait(PATIENCE_S)

    assert run.status is RunStatus.SUCCEEDED
    assert "align: the script for else changed" in capsys.readouterr().err


def test_a_trial_and_a_check_run_the_script_of_the_item(aligned: Notebook) -> None:
    aligned.trace.write_text("")
    aligned.session.try_one("align", "2")
    assert aligned.ran() == ["backwards"]
    (found,) = repeat(aligned.session, ["align"], sample=None)
    assert (found.tasks, found.failed, found.good) == (3, [], True)


def test_an_edit_of_one_script_can_be_trusted(aligned: Notebook) -> None:
    aligned.cell(cell(aligned).replace("tac ", "tac -- "))
    (told,) = aligned.session.trust(["align"], "means the same")
    assert len(told.words) == 1
    assert aligned.run().counts() == {"cached": 3}


def test_a_stub_stands_for_all_of_them(aligned: Notebook) -> None:
    assert aligned.run(stub=True).counts() == {"completed": 3}
    assert texts(aligned) == ["", "", ""]


def test_an_item_for_which_no_script_is_fails_and_says_so_unless_when_leaves_it_out(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel modes = of('a', 'b')")
    text = '%%process work(mode) -> stdout from modes --bash\n#| if: mode == "a"\necho a'
    notebook.cell(text)
    run = notebook.run()
    assert run.counts() == {"completed": 1, "failed": 1}
    assert 'none of these holds: mode == "a"' in run.failures[0].error
    notebook.cell(text.replace("--bash", "--bash --when \"mode == 'a'\""))
    assert notebook.run().counts() == {"cached": 1, "skipped": 1}


def test_an_output_that_one_of_them_never_sets_is_an_error_at_once(notebook: Notebook) -> None:
    notebook.cell("%channel modes = of('a')")
    with pytest.raises(DeclarationError, match="never set"):
        notebook.cell(
            "%%process work(mode) -> said from modes --bash\n"
            '#| if: mode == "a"\nsaid=1\n#| else:\necho 2'
        )


def test_a_failed_task_is_entered_with_its_own_script(notebook: Notebook) -> None:
    notebook.cell("%channel modes = of('a', 'b')")
    notebook.cell(
        "%%process work(mode) -> stdout from modes --bash\n"
        '#| if: mode == "a"\necho fine\n#| else:\nexit 3'
    )
    (failure,) = notebook.run().failures
    assert failure.workdir is not None
    with open(f"{failure.workdir}/.command.sh") as script:
        assert "exit 3" in script.read()
