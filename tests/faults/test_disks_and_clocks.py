"""A disk that is full, a folder that may only be read, a clock that goes back: what is said, and
that nothing that was announced is lost or run again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.namespace import REPOSITORY, run_on_tmpfs
from tests.waiting import PATIENCE_S


def records(told: str) -> list[Any]:
    return [json.loads(line) for line in told.splitlines()]


def test_a_full_disk_is_said_and_the_next_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    full, after, again = records(
        run_on_tmpfs(tmp_path / "disk", 14, "tests.faults.disk_actor", "full")
    )
    assert full["status"] == "failed"
    assert full["counts"]["completed"] >= 1
    assert full["counts"]["aborted"] >= 1  # no more were started once the disk was full
    text = full["error"] or full["errors"][0]
    assert "the disk is full" in text
    assert "nbcache clean" in text
    kept = full["counts"]["completed"]
    assert after["status"] == "succeeded"
    assert after["counts"] == {"cached": kept, "completed": 20 - kept}
    assert again["counts"] == {"cached": 20}
    assert not [each for record in (full, after, again) for each in record["problems"]]


def test_a_disk_that_takes_no_more_files_is_full_too(tmp_path: Path) -> None:
    first, full, after, cleaned = records(
        run_on_tmpfs(tmp_path / "disk", 14, "tests.faults.disk_actor", "inodes")
    )
    assert first["counts"] == {"completed": 2}
    assert full["status"] == "failed"
    assert full["counts"]["aborted"] >= 1  # no more were started
    assert all("the disk is full" in error for error in full["errors"] or [full["error"]])
    assert after["status"] == "succeeded"
    assert after["counts"]["cached"] >= 2
    assert (cleaned["results"], cleaned["is_found"]) == (1, False)
    assert not [each for record in (first, full, after, cleaned) for each in record["problems"]]


def test_a_failure_whose_row_finds_no_room_ends_the_run_in_order(tmp_path: Path) -> None:
    full, after = records(run_on_tmpfs(tmp_path / "disk", 14, "tests.faults.disk_actor", "filled"))
    assert full["status"] == "failed"
    assert full["counts"]["completed"] == 1
    assert full["counts"]["aborted"] >= 1  # a few rows fit into what a file holds already
    assert "ValueError: full; and the disk is full" in full["errors"][-1]
    assert after["counts"] == {"cached": 1, "completed": 8}
    assert not [each for record in (full, after) for each in record["problems"]]


def test_a_clean_up_makes_room_on_a_disk_without_room_for_its_own_rows(tmp_path: Path) -> None:
    first, unmerged, cleaned, after = records(
        run_on_tmpfs(tmp_path / "disk", 14, "tests.faults.disk_actor", "clean")
    )
    assert first["counts"] == {"completed": 5}
    assert unmerged["code"] == 3
    assert unmerged["said"].startswith("took away what is kept of 0 tasks")
    assert "\nthe log could not be merged: the disk is full" in unmerged["said"]
    assert cleaned["freed"] >= 5 * 400_000
    assert (cleaned["results"], cleaned["problems"]) == (0, [])
    assert after["counts"] == {"completed": 5}


def test_before_a_read_only_cache_stands_a_private_one_and_both_are_one_history(
    tmp_path: Path,
) -> None:
    first, hits, read, misses, again, history, repaired, after, live = records(
        run_on_tmpfs(tmp_path / "disk", 14, "tests.faults.disk_actor", "read-only")
    )
    assert first["counts"] == {"completed": 5}
    assert (hits["status"], hits["counts"]) == ("succeeded", {"cached": 5})
    (note,) = hits["notes"]
    why = "(no permission to write): its results are used"
    assert f"{tmp_path}/disk/cache may only be read {why}" in note
    assert read == {"read": 5}
    assert misses["counts"] == {"cached": 5, "completed": 5}
    assert again["counts"] == {"cached": 10}
    assert history == {"runs": 4, "tasks": [["CACHED", 20], ["COMPLETED", 10]]}
    assert repaired["counts"] == {"cached": 9, "completed": 11}, "one blob was damaged"
    assert after["counts"] == {"cached": 5, "completed": 5}, (
        "which knows nothing of the private one"
    )
    assert (live["status"], live["after"]) == ("running", "succeeded")
    assert "may only be read: only its owner can end it" in live["cancel"]
    assert "is running (process" in live["resume"]
    assert not [each for record in (hits, misses, again) for each in record["problems"]]


@pytest.mark.parametrize("directive", ["publish", "store"])
def test_a_full_disk_below_a_results_folder_fails_the_run_at_its_end_and_loses_nothing(
    tmp_path: Path, directive: str
) -> None:
    full, after, made = records(
        run_on_tmpfs(tmp_path / "disk", 14, "tests.faults.disk_actor", directive)
    )
    assert full["status"] == "failed"
    assert full["counts"] == {"completed": 8}  # also what lies below
    done = "published" if directive == "publish" else "stored"
    said = f"its result is kept, but not {done}: the disk of {tmp_path}/disk/out is full"
    assert said in full["errors"][0]
    assert after["status"] == "succeeded"
    assert "completed" not in after["counts"]
    assert made == {"there": [True] * 4}
    assert not [each for record in (full, after) for each in record["problems"]]


def test_a_full_disk_that_tasks_run_on_is_told_as_that_and_not_as_the_caches(
    tmp_path: Path,
) -> None:
    full, crowded, after = records(
        run_on_tmpfs(tmp_path / "disk", 14, "tests.faults.disk_actor", "scratch")
    )
    out = f"{tmp_path}/disk/out"
    assert full["errors"][0].startswith(f"the disk of {out} is full, where the task ran.")
    assert f"{out}: no folder can be made there: No space left" in crowded["errors"][0]
    assert after["counts"] == {"completed": 1}


def test_results_are_put_into_another_mount_of_the_file_system_that_the_cache_is_on(
    tmp_path: Path,
) -> None:
    """As two volumes of a container: nothing can be moved from one to the other."""
    run, made = records(run_on_tmpfs(tmp_path / "disk", 14, "tests.faults.disk_actor", "volume"))
    assert (run["status"], run["counts"], run["errors"]) == ("succeeded", {"completed": 1}, [])
    assert run["problems"] == []
    shown = ["", "/made", "/sub", "/sub/link", "/sub/x"]
    assert [each for each in made["there"] if "/.nbcache" not in each] == [
        f"{folder}{name}" for folder in ("copy", "link", "stored") for name in shown
    ]


def without_rights(program: str, state: str = "/proc") -> str:
    """Run Python without the rights of root, which may write where it is forbidden."""
    command = [sys.executable, "-c", program]
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root without setpriv: nothing is forbidden to it")
        command = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", *command]
    ended = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "XDG_STATE_HOME": state},  # in /proc is no room for a private cache
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_log_of_another_user_is_named_where_it_lies_and_not_where_it_is_linked(
    tmp_path: Path,
) -> None:
    """In front of a cache that may only be read stands a private one, with links to its log."""
    for cache in ("theirs", "private"):
        (tmp_path / cache / "log").mkdir(parents=True)
    theirs, link = (tmp_path / cache / "log" / "x.parquet" for cache in ("theirs", "private"))
    theirs.touch(mode=0)
    link.symlink_to(theirs)
    said = without_rights(f"""
from pathlib import Path
from nbcache.errors import StoreError
from nbcache.store.segment import open_parquet
try:
    with open_parquet(Path({str(link)!r})): pass
except StoreError as error:
    print(error)
""")
    assert said.startswith(f"the segment file {theirs} may not be read by you")
    assert said.endswith(f"chmod -R go+rX {tmp_path / 'theirs'}\n")


@pytest.mark.parametrize("locked", ["cache", "cache/blobs", "."])
def test_a_folder_that_may_not_be_written_is_named_with_the_way_out(
    tmp_path: Path, locked: str
) -> None:
    program = f"""
import os
from pathlib import Path
from tests.engine.notebooks import Notebook
folder = Path({str(tmp_path)!r})
def kernel(count):
    notebook = Notebook(folder)
    notebook.cell(f"%channel src = from_iterable(range({{count}}))")
    notebook.cell("%%process work(v) -> out from src\\nout = v")
    return notebook
if {locked!r} != ".":
    kernel(2).run()
os.chmod(folder / {locked!r}, 0o555)
try:
    later = kernel(3)
    later.trace = Path(os.devnull)
    run = later.run()
    print(run.counts().get("cached"), run.failures[0].error, run.failures[0].way_out)
except Exception as error:
    print(type(error).__name__, error)
finally:
    os.chmod(folder / {locked!r}, 0o755)
print(kernel(3).run().counts())
"""
    state = str(tmp_path / "state") if locked == "cache/blobs" else "/proc"
    *said, last = without_rights(program, state).strip().split("\n")
    text = "\n".join(said)
    if locked == ".":
        assert text.startswith("StoreError cannot open the cache")
    else:
        assert text.startswith("2 the cache")
        assert "read-only (no permission to write" in text
        assert "no cell is at fault" in text
    assert "%nbcache use FOLDER" in text
    assert last == str({"completed": 3} if locked == "." else {"cached": 2, "completed": 1}) or (
        last == str({"completed": 1, "cached": 2})
    )


def test_a_cache_that_is_locked_while_a_run_goes_on_is_named_with_the_way_out(
    tmp_path: Path,
) -> None:
    program = f"""
import os
from pathlib import Path
from tests.engine.notebooks import Notebook
folder = Path({str(tmp_path)!r})
notebook = Notebook(folder)
notebook.trace = Path(os.devnull)
notebook.cell("%channel src = of(1, 2, 3)")
notebook.cell('''%%process work(v) -> out from src --max_forks 1
import os
for each in ("blobs", "tmp", "work") if v == 2 else ():
    os.chmod("{tmp_path}/cache/" + each, 0o555)
out = bytes([v]) * 100_000''')
run = notebook.run()
for each in ("blobs", "tmp", "work"):
    os.chmod(folder / "cache" / each, 0o755)
print(run.counts(), run.failures[0].error)
notebook.close()
later = Notebook(folder)
later.cell("%channel src = of(1, 2, 3)")
later.cell('%%process work(v) -> out from src\\nout = bytes([v]) * 100_000')
print(later.run().counts())
later.close()
"""
    *said, last = without_rights(program).strip().split("\n")
    text = "\n".join(said)
    assert text.startswith("{'completed': 1, 'failed': 1, 'aborted': 1} the cache")
    assert "is read-only (Permission denied)" in text
    assert "%nbcache use FOLDER" in text
    assert last == "{'completed': 3}"


def test_what_a_task_locks_in_its_own_folder_is_kept_and_is_no_matter_of_the_cache(
    tmp_path: Path,
) -> None:
    program = f"""
import os
from pathlib import Path
from tests.engine.notebooks import Notebook
notebook = Notebook(Path({str(tmp_path)!r}))
notebook.trace = Path(os.devnull)
os.mkdir("{tmp_path}/closed", 0)
notebook.cell("%channel src = of(1, 2, 3, 4)")
notebook.cell('''%%process folder(v) -> out: path = 'sub' from src --bash --max_forks 1
mkdir -p sub/low; echo $v > sub/low/x; ln -s low/x sub/link
chmod -R a-w sub
[ $v != 2 ] || chmod 0 sub/low''')
notebook.cell('''%%process file(v) -> out: path = 'x' from src --bash --max_forks 1
echo $v > x; chmod a-w .''')
notebook.cell('''%%process everything(v) -> out from src --max_forks 1
import os
from pathlib import Path
os.mkdir('sub')
Path('sub/x').write_text(str(v))
for each in ('sub', '.'):
    os.chmod(each, 0o555)
out = Path('.')''')
notebook.cell('''%%process nothing(v) -> out from src --max_forks 1
import os
os.mkdir('sub')
os.rmdir('sub')
os.chmod('.', 0o555)
out = v''')
notebook.cell('''%%process closed(v) -> out from src --bash --max_forks 1
mkdir -p sub/low; echo $v > sub/low/x; ln -s {tmp_path}/closed/x sub/low/y
chmod 0 sub/low sub; out=$v''')
notebook.cell('''%%process away(v) -> out from src --bash --max_forks 1 --scratch {tmp_path}/scratch
mkdir sub; echo $v > sub/x; chmod 0 sub/x; chmod 0 sub; out=$v
[ $v != 2 ] || {{ chmod a-w .; exit 1; }}''')
run = notebook.run()
print(run.counts())
for each in run.failures:
    print(each.process, each.error.splitlines())
notebook.close()
print(len(os.listdir("{tmp_path}/cache/work")), os.listdir("{tmp_path}/scratch"))
"""
    counts, *failed, left = without_rights(program).strip().split("\n")
    assert counts == "{'completed': 22, 'failed': 2}"
    away, folder = sorted(failed)
    assert away.startswith("away ['the script ended with exit code 1'")
    assert folder.startswith("folder [")
    assert "cannot read the directory" in folder
    assert left == "2 []"  # of the tasks that failed


def test_a_results_folder_that_may_not_be_written_is_named_and_the_run_goes_on(
    tmp_path: Path,
) -> None:
    program = f"""
import os
from pathlib import Path
from tests.engine.notebooks import Notebook
folder = Path({str(tmp_path)!r})
for name in ("shown", "stored"):
    (folder / name).mkdir()
    (folder / name).chmod(0o555)
notebook = Notebook(folder)
notebook.cell("%channel src = of(1, 2)")
notebook.cell('%%process work(v) -> made: path = "{{v}}.txt" from src --bash\\n'
              '#| publish: shown\\n#| publish: open\\n#| store: stored\\necho $v > $v.txt')
notebook.cell("%%process below(made: path) -> n from work\\nn = made.read_text()")
run = notebook.run()
print(run.status, run.counts(), sorted(each.name for each in (folder / "open").iterdir()))
print(run.failures[0].error)
for name in ("shown", "stored"):
    (folder / name).chmod(0o755)
    print(name, list((folder / name).iterdir()))
print(notebook.run().counts(), len(list((folder / "shown").iterdir())))
notebook.close()
"""
    ran, error, shown, stored, again = without_rights(program).strip().split("\n")
    assert ran == "failed {'completed': 4} ['1.txt', '2.txt']"
    assert f"not stored: no permission to write {tmp_path}/stored" in error
    assert f"; and not published: no permission to write {tmp_path}/shown" in error
    assert (shown, stored) == ("shown []", "stored []")
    assert again == "{'cached': 4} 2"


def test_a_clock_that_goes_back_loses_nothing_and_never_prefers_an_older_result(
    tmp_path: Path,
) -> None:
    """The first kernel lives two hours ahead; the later ones, whose rows look older, make newer
    results, and those count; and theirs are the newer runs."""

    def kernel(offset_s: int, *words: str) -> Any:
        ended = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.faults.clock_actor",
                str(tmp_path),
                str(offset_s),
                *words,
            ],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        told = json.loads(ended.stdout)
        assert told["problems"] == []
        return told

    ahead = kernel(7200)
    assert ahead["counts"] == {"completed": 5}
    back = kernel(0)
    assert (back["counts"], back["total"]) == ({"cached": 5}, ahead["total"])
    fresh = kernel(-3600, "fresh")
    assert fresh["counts"] == {"completed": 5}
    assert fresh["total"] != ahead["total"]
    last = kernel(7200)
    assert (last["counts"], last["total"]) == ({"cached": 5}, fresh["total"])
    assert last["runs"] == [each["run"] for each in (last, fresh, back, ahead)]
