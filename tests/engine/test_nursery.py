"""What the other tests rely on: a forked supervisor is one that this process would have started."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from nbcache.engine.executors import supervisor_handle
from tests.engine.notebooks import Notebook
from tests.nursery.forked import Nursery


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="supervisors are forked on Linux alone")
def test_supervisors_have_the_umask_of_their_test_also_after_the_mother_died(
    kernels: Callable[[], Notebook], monkeypatch: pytest.MonkeyPatch
) -> None:
    nursery = Nursery()
    monkeypatch.setattr(supervisor_handle, "start_python", nursery.start)

    def umask_of_a_task(umask: int) -> str:
        notebook = kernels()
        notebook.cell(f"%channel src = of({umask})")
        notebook.cell("%%process look(v) -> out from src\nimport os\nout = oct(os.umask(0o77))")
        before = os.umask(umask)
        try:
            return str(notebook.run()["look"].value)
        finally:
            os.umask(before)

    assert umask_of_a_task(0o22) == "0o22"
    first = nursery._mother
    assert umask_of_a_task(0o27) == "0o27"
    assert first is not None
    assert nursery._mother is first
    first.kill()
    first.wait()
    assert umask_of_a_task(0o77) == "0o77"
    assert nursery._mother is not first
    nursery.close()
