"""The RNA-seq notebook runs what a change touches, and nothing else, with the real tools.

Needs salmon and fastqc on the PATH, and the reads: in the folder that NBCACHE_TEST_DATA names, or
in `shared/data/ggal` beside the repository.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.examples.running import EXAMPLES, Bench, missing_tools

DATA = Path(os.environ.get("NBCACHE_TEST_DATA", EXAMPLES.parents[1] / "shared/data/ggal"))
MISSING = missing_tools(("salmon", "fastqc"))

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not on the PATH: {', '.join(MISSING)}"),
    pytest.mark.skipif(
        not DATA.is_dir(), reason="no reads: set NBCACHE_TEST_DATA to a folder with ggal_*.fq"
    ),
]

PER_SAMPLE = ["expression", "fastqc", "quality", "quant"]
ALL = sorted([*PER_SAMPLE, *PER_SAMPLE, "index", "report"])

BenchMaker = Callable[[], Bench]


@pytest.fixture(scope="module")
def ran_once(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The notebook beside its reads, after one run."""
    root = tmp_path_factory.mktemp("rnaseq") / "project"
    root.mkdir()
    copy_reads(root / "data/ggal")
    bench = Bench.with_copy(root, "rnaseq.ipynb")
    first = bench.run()
    assert first.bodies == ALL
    assert "gut" in first.result("value")
    assert "liver" in first.result("value")
    return bench


@pytest.fixture
def bench(ran_once: Bench) -> Bench:
    """The same, back in the state that the first run left it in."""
    kept = ran_once.root.with_name("kept")
    if not kept.exists():
        shutil.copytree(ran_once.root, kept, symlinks=True)
    shutil.rmtree(ran_once.root)
    shutil.copytree(kept, ran_once.root, symlinks=True)
    return ran_once


def copy_reads(to: Path) -> None:
    """Copy the reads to a folder where they may be changed."""
    to.mkdir(parents=True)
    for file in DATA.iterdir():
        shutil.copyfile(file, to / file.name)


def change_one_base(reads: Path) -> None:
    """Change the first base of the first read."""
    text = bytearray(reads.read_bytes())
    at = text.index(b"\n") + 1
    text[at : at + 1] = b"C" if text[at : at + 1] == b"A" else b"A"
    reads.write_bytes(text)


def test_the_second_run_executes_nothing_and_shows_the_same_report(bench: Bench) -> None:
    second = bench.run()
    third = bench.run()

    assert second.bodies == []
    assert third.result("value") == second.result("value")
    assert "gut" in second.result("value")
    assert len(second.images("report")) == 1, "the figure that the report drew is shown again"
    assert third.images("report") == second.images("report")


def test_touching_every_input_executes_nothing(bench: Bench) -> None:
    for file in (bench.root / "data/ggal").iterdir():
        os.utime(file)

    assert bench.run().bodies == []


def test_one_changed_base_runs_what_is_below_that_file(bench: Bench) -> None:
    before = bench.run()
    change_one_base(bench.root / "data/ggal/ggal_gut_1.fq")

    after = bench.run()

    # The report is below as well; it runs exactly if one of its tables became another one.
    same_report = after.result("value") == before.result("value")
    assert after.bodies == (PER_SAMPLE if same_report else sorted([*PER_SAMPLE, "report"]))


def test_many_changed_reads_reach_the_report(bench: Bench) -> None:
    reads = bench.root / "data/ggal/ggal_liver_1.fq"
    lines = reads.read_bytes().split(b"\n")
    for at in range(1, 2000, 4):
        lines[at] = b"A" * len(lines[at])
    reads.write_bytes(b"\n".join(lines))

    assert bench.run().bodies == sorted([*PER_SAMPLE, "report"])


def test_a_new_sample_runs_its_own_tasks_and_the_report(bench: Bench) -> None:
    folder = bench.root / "data/ggal"
    for mate in (1, 2):
        shutil.copyfile(folder / f"ggal_gut_{mate}.fq", folder / f"ggal_brain_{mate}.fq")
    change_one_base(folder / "ggal_brain_1.fq")

    after = bench.run()

    assert after.bodies == sorted([*PER_SAMPLE, "report"])
    assert "brain" in after.result("value")


def test_a_comment_in_a_python_body_runs_nothing(bench: Bench) -> None:
    bench.edit("expression", lambda text: text + "\n# a remark")
    bench.edit("report", lambda text: text.replace("\n\n", "\n\n# another remark\n", 1))

    assert bench.run().bodies == []


def test_an_edited_helper_runs_the_processes_that_reach_it(bench: Bench) -> None:
    bench.edit("helpers", lambda text: text.replace('"percent_mapped"]', '"percent_mapped"] + 0.0'))

    # Their results are equal, so the report has nothing to do.
    assert bench.run().bodies == ["expression", "expression"]


def test_a_helper_whose_results_change_runs_the_report_too(bench: Bench) -> None:
    bench.edit("helpers", lambda text: text.replace('"percent_mapped"]', '"percent_mapped"] / 2'))

    assert bench.run().bodies == ["expression", "expression", "report"]


def test_the_data_folder_is_a_parameter(bench: Bench, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(bench.root / "data/ggal", elsewhere)

    ran, said = bench.run_from_a_shell("-p", f"data={elsewhere}")

    # Files count by content, wherever they lie.
    assert ran.bodies == []
    assert "10 cached" in said
