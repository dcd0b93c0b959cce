"""What a body gets follows from what its own header declares, whoever else takes the same item."""

from pathlib import Path

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

    assert not single and several
    assert gathered == [1, 2, 3]
    (failure,) = run.failures
    assert failure.task == "number[]"
    assert "declared as int, but the item is" in failure.error and "(list)" in failure.error
