"""`import nbcache` and a question in a shell stay light: what they load is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from nbcache.store.cache import Cache

Record = Callable[[str, object], None]

HEAVY = (
    "IPython",
    "anywidget",
    "duckdb",
    "ipykernel",
    "ipywidgets",
    "matplotlib",
    "nbclient",
    "nbformat",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "rich",
    "sklearn",
    "torch",
)
BUDGET_S = 0.15

PROGRAM = """
import json, sys, time
before, start = set(sys.modules), time.perf_counter()
import nbcache
took = time.perf_counter() - start
loaded = set(sys.modules) - before
print(json.dumps({"took": took, "loaded": sorted(loaded), "before": sorted(before)}))
"""


def import_afresh() -> dict[str, object]:
    """Import nbcache in a new process; return what came with it and how long it took."""
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    found: dict[str, object] = json.loads(answer.stdout)
    return found


def test_importing_nbcache_loads_no_heavy_library(record_property: Record) -> None:
    runs = [import_afresh() for _ in range(3)]
    fastest = min(float(str(run["took"])) for run in runs)
    loaded = runs[0]["loaded"]
    assert isinstance(loaded, list)

    record_property(
        "measured", f"import nbcache: {fastest * 1000:.0f} ms (budget {BUDGET_S * 1000:.0f} ms)"
    )

    assert "nbcache" in loaded
    assert [name for name in HEAVY if name in loaded] == []


QUESTION = """
import sys
from nbcache import cli
code = cli.main(["sql", "SELECT count(*) AS tasks FROM tasks", "--cache", sys.argv[1]])
assert code == 0
print(*sorted(name for name in sys.modules if name.startswith(("nbcache.engine.", "pandas"))))
"""


def test_a_question_in_a_shell_loads_nothing_of_what_runs_tasks(tmp_path: Path) -> None:
    Cache.open(tmp_path / "cache").close()
    command = [sys.executable, "-c", QUESTION, str(tmp_path / "cache")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = answer.stdout.splitlines()[-1].split()

    assert [name for name in loaded if not name.startswith("nbcache.engine.record")] == []


SCRIPT = """
import atexit, os, sys
from pathlib import Path
atexit.register(lambda: print(*sorted({"pandas", "duckdb", "pyarrow.dataset"} & set(sys.modules))))
from tests.engine.notebooks import Notebook
notebook = Notebook(Path(sys.argv[1]))
notebook.cells(["%channel src = of(1, 2)", "%%process twice(v) -> out from src\\nout = 2 * v"])
assert notebook.run().counts() == {"completed": 2}
"""


def test_a_small_run_loads_nothing_heavy_to_write_its_history(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)

    assert answer.stdout.splitlines()[-1:] == [""]
    assert list((tmp_path / "cache/log").glob("*.rows.parquet")), "nothing was folded at its end"
