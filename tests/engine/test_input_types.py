"""What a body gets and gives follows from its header, and from no name that is equal by chance."""

from pathlib import Path

import pytest

from nbcache.engine.record.results import task_label
from nbcache.errors import NbcacheError
from tests.engine.notebooks import Notebook


def test_each_process_gets_an_item_in_the_form_that_its_own_header_declares(
    tmp_path: Path,
) -> None:
    notebook = Notebook(tmp_path)
    notebook.cells(
        [
            "%channel nums = of(1, 2, 3)",
            '%%process make() -> f: path = "x.txt" --bash\necho > x.txt',
            "%%process single(f: path) from make\nisinstance(f, list)",
            "%%process several(f: list[path]) from make\nisinstance(f, list)",
            "%%process gathered(n: list) from nums.collect()\nn",
            "%%process number(n: int) from nums.collect()\nn",
        ]
    )

    run = notebook.run()
    single, several, gathered = (run[name].value for name in ("single", "several", "gathered"))
    notebook.close()

    assert (single, several) == (False, True)
    assert gathered == [1, 2, 3]
    (failure,) = run.failures
    assert failure.task == "number"
    assert "declared as int, but the item is" in failure.error


def test_a_final_expression_is_the_result_also_where_the_body_sets_the_name_of_its_process(
    tmp_path: Path,
) -> None:
    body = "fit = n * 2\nfit + 1"
    notebook = Notebook(tmp_path)
    notebook.cells(["%channel n = value(4)", f"%%process fit(n) from n\n{body}"])
    inferred = notebook.run()["fit"].value
    notebook.cell(f"%%process fit(n) -> fit from n\n{body}")
    declared = notebook.run()["fit"].value
    notebook.close()

    assert inferred == 9
    assert declared == 8


def test_a_default_sees_the_names_of_the_notebook_as_they_are_when_a_run_begins(
    tmp_path: Path,
) -> None:
    notebook = Notebook(tmp_path)
    notebook.cells(
        [
            "limits = [1]",
            "%channel nums = of(3)",
            "%%process top(n, most=max(limits)) from nums\nmost",
        ]
    )
    first = notebook.run()
    notebook.cell("limits.append(4)")
    second = notebook.run()
    values = [run["top"].value for run in (first, second)]
    del notebook.names["limits"]
    said = r"^process 'top': input 'most': default max\(limits\): NameError"
    with pytest.raises(NbcacheError, match=said):
        notebook.run()
    notebook.close()

    assert values == [1, 4]
    assert second.reasons["top"] == "new input: no earlier task has most 4"


def test_a_task_is_called_by_an_int_that_python_does_not_print() -> None:
    assert task_label("f", {"x": 10**5000, "y": 3}, (0,)) == "f[x=int of 16610 bits y=3]"
