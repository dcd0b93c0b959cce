"""Secrets reach the attempt and nothing else: no byte of the cache holds one."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook

SECRET = "s3cr3t-t0ken-XYZZY"


def leaks(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize(
    "body",
    [
        "print(os.environ['TOKEN'])\nout = v",
        "raise ValueError(os.environ['TOKEN'])\nout = v",
        "out = os.environ['TOKEN']",
        "out = {'key': [os.environ['TOKEN']] * 3000}",
        "display(os.environ['TOKEN'])\nout = v",
        "for each in os.environ['TOKEN']:\n    print(each, end='', flush=True)\nout = v",
        "import ctypes\nprint(os.environ['TOKEN'], flush=True)\nctypes.string_at(0)\nout = v",
    ],
)
def test_no_byte_of_the_cache_holds_a_secret(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    notebook.cell("%channel src = of(1)")
    notebook.cell(f"%%process work(v) -> out from src --secret TOKEN\nimport os\n{body}")
    notebook.run()
    notebook.close()
    assert not leaks(notebook.folder)


def test_no_file_of_the_cache_holds_a_secret(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    notebook.cell("%channel src = of(1)")
    notebook.cell(
        '%%process work(v) -> out: path = "d" from src --bash --secret TOKEN\n'
        'mkdir d; : > d/empty; echo "key=$TOKEN" > d/config'
    )
    run = notebook.run()
    assert "output 'd' holds the secret TOKEN" in run.failures[0].error
    workdir = run.failures[0].workdir
    assert workdir is not None
    kept = Path(workdir)
    assert all(kept in path.parents for path in leaks(notebook.folder))


def test_a_secret_that_is_not_set_is_an_error_only_where_a_task_runs(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src --secret TOKEN\nout = v")
    run = notebook.run()
    assert run.status is RunStatus.FAILED
    assert "secret TOKEN is not set" in run.failures[0].error
    monkeypatch.setenv("TOKEN", SECRET)
    assert notebook.run().counts() == {"completed": 1}
    monkeypatch.delenv("TOKEN")
    assert notebook.run().counts() == {"cached": 1}


def test_a_declared_variable_that_is_not_set_is_no_undeclared_read(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell(
        "%%process work(v) -> out from src --env NBCACHE_TEST_UNSET\n"
        "import os\nout = os.environ.get('NBCACHE_TEST_UNSET')"
    )
    assert not notebook.run().notes
