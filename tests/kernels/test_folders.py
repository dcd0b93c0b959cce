"""Results in folders, outputs of scripts and helpers, through `nbcache run` and real kernels."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nbformat

from tests.examples.running import nbcache_command

CELLS = (
    "%load_ext nbcache",
    '%channel samples = of("ant", "b [e] e", "-c")',
    '%%process index() -> idx: path = "the index" --bash --store shelf\necho made > "the index"',
    "%%process quant(sample, idx: path) -> sample, table: path = \"{sample}.tsv\", d: path = 'd', "
    'parts: list[path, 2] = "part?", version = "$(tool --version)", log: path | None = "log" '
    "from samples, index --bash --scratch\n"
    "#| publish: results/{sample}, only=table d\n"
    "#| publish: tables, only=table, mode=symlink\n"
    "#| stage_as: idx=ref/*\n"
    "#| before: export WORD=hello\n"
    'echo "$WORD $sample" > "./$sample.tsv"; mkdir -p d/sub; cat ref/* > "d/sub/x y"\n'
    'bash helper.sh >> "./$sample.tsv"; touch part1 part2',
    "%%process below(log: path) -> n from quant\nn = 1",
    "run = %nbcache run",
    "print(run.counts(), sorted(t.read_text() for t in [each.table for each in run['quant']]))",
)


def test_9_10_11_12_18_19_23_through_real_kernels(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "nb.ipynb")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("#!/bin/sh\necho tool 1\n")
    (tmp_path / "bin/tool").chmod(0o755)
    (tmp_path / "helper.sh").write_text("echo helped\n")

    def run() -> str:
        ended = nbcache_command("run", "nb.ipynb", folder=tmp_path)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def shown() -> list[str]:
        folders = (tmp_path / "results", tmp_path / "tables")
        return sorted(str(p.relative_to(tmp_path)) for f in folders for p in f.rglob("*"))

    texts = str(sorted(f"hello {sample}\nhelped\n" for sample in ("ant", "b [e] e", "-c")))
    first = run()
    assert "4 ran, 0 cached" in first
    assert texts in first
    names = shown()
    assert "results/b [e] e/d/sub/x y" in names
    assert os.readlink(tmp_path / "tables/-c.tsv").startswith(str(tmp_path))

    shutil.rmtree(tmp_path / "results")
    (tmp_path / "tables/ant.tsv").unlink()
    second = run()
    assert "0 ran, 3 cached, 1 stored" in second
    assert "index: taken from the store folder" in second
    assert texts in second
    assert shown() == names
