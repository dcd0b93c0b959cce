"""A kernel whose disk fills up, or becomes read-only; prints one JSON line per run.

python -m tests.faults.disk_actor FOLDER full|inodes|filled|clean|read-only|volume
python -m tests.faults.disk_actor FOLDER publish|store    FOLDER is where results are put
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from nbcache.cli import main
from nbcache.engine.record.history import request_cancel, runs
from nbcache.engine.record.query import fetch
from nbcache.errors import RunError
from nbcache.store.cache import Cache
from nbcache.store.verify import verify
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S

LARGE = "%%process large(v) -> data from src\nimport os\ndata = os.urandom(400_000)"
FILLS = """%%process fills(v) -> out from src --max_forks 1
#| on_error: 'ignore' if task.signal else 'continue'
import os
if v and not os.path.exists({folder!r} + '/gate'):
    with open("filler", "wb", buffering=0) as filler:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    filler.write(bytes(size))
            except OSError:
                pass
    raise ValueError("full")
out = v"""


def tell(notebook: Notebook, timeout: float = PATIENCE_S) -> None:
    """Run and print what came of it and what the cache is like now."""
    notebook.trace = notebook.folder.parent / "trace"
    run = notebook.run(timeout=timeout)
    report = verify(notebook.session.cache)
    notebook.session.close()
    record = {
        "status": str(run.status),
        "counts": run.counts(),
        "errors": [failure.error for failure in run.failures],
        "error": run.fault,
        "notes": run.notes,
        "problems": [str(each) for each in report.problems],
    }
    print(json.dumps(record), flush=True)


def kernel(folder: Path, count: int) -> Notebook:
    notebook = Notebook(folder)
    notebook.cell(f"%channel src = from_iterable(range({count}))")
    notebook.cell(LARGE)
    return notebook


def fill_up(folder: Path) -> None:
    """Twice as much as fits, first with a ballast that is taken away before the second run."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(8_000_000))
    first = kernel(folder, 20)
    tell(first)
    first.close()
    ballast.unlink()
    second = kernel(folder, 20)
    tell(second)
    tell(second)
    second.close()


def run_out_of_inodes(folder: Path) -> None:
    """There is room for bytes, but soon not for another file; then there is; then one result is to
    go where there is none again."""
    notebook = kernel(folder, 2)
    tell(notebook)
    state = os.statvfs(folder)
    limit = state.f_files - state.f_ffree + 5
    remount = ["mount", "-o", f"remount,nr_inodes={limit}", str(folder)]
    subprocess.run(remount, check=True)
    notebook.cell("%channel src = from_iterable(range(20))")
    tell(notebook)
    subprocess.run([*remount[:2], "remount,nr_inodes=9999", str(folder)], check=True)
    tell(notebook)
    notebook.close()
    state = os.statvfs(folder)
    limit = state.f_files - state.f_ffree
    subprocess.run([*remount[:2], f"remount,nr_inodes={limit}", str(folder)], check=True)
    with Cache.open(folder / "cache") as cache:
        one = next(each.hash for each in cache.log.attempts())
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(["clean", "--hash", one, "--json", "-f", "--cache", str(folder / "cache")])
    with Cache.open(folder / "cache") as cache:
        problems = [str(each) for each in verify(cache).problems]
        record = {**json.loads(said.getvalue()), "problems": problems}
        print(json.dumps({**record, "is_found": cache.log.find(one) is not None}), flush=True)


def be_filled(folder: Path) -> None:
    """A task fills the disk to the last byte and fails: its row cannot be written by anybody."""
    notebook = Notebook(folder)
    notebook.cell("%channel src = from_iterable(range(9))")
    notebook.cell(FILLS.format(folder=str(folder.parent)))
    tell(notebook)
    (folder.parent / "gate").touch()
    for filler in (folder / "cache/work").glob("*/filler"):
        filler.unlink()
    tell(notebook)
    notebook.close()


def clean_up_full(folder: Path) -> None:
    """There is not a byte for a tombstone, and cleaning up is what one is told to do."""
    notebook = kernel(folder, 5)
    tell(notebook)
    notebook.close()
    filler = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(filler, bytes(4096))
    os.close(filler)
    cache_words = ["--compact", "-f", "--cache", str(folder / "cache")]
    with contextlib.redirect_stdout(io.StringIO()) as kept:
        code = main(["clean", "--process", "large", "--status", "failed", *cache_words])
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(["clean", "--older-than", "0s", "--json", *cache_words])
    with Cache.open(folder / "cache") as cache:
        problems = [str(each) for each in verify(cache).problems]
        left = sum(cache.log.find(each.hash) is not None for each in cache.log.attempts())
    (folder / "filler").unlink()
    freed = json.loads(said.getvalue())["freed_bytes"]
    print(json.dumps({"code": code, "said": kept.getvalue()}), flush=True)
    print(json.dumps({"freed": freed, "results": left, "problems": problems}), flush=True)
    later = kernel(folder, 5)
    tell(later)
    later.close()


def become_read_only(folder: Path) -> None:
    """Five results are there; then nothing can be written, and ten are asked for, twice. At last a
    blob there is damaged."""
    first = kernel(folder, 5)
    tell(first)
    first.close()
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    second = kernel(folder, 5)
    tell(second)
    print(json.dumps({"read": len(list(second.names["large"]))}), flush=True)
    second.cell("%channel src = from_iterable(range(10))")
    tell(second)
    tell(second)
    cache = second.session.cache
    told = fetch(cache, "SELECT status, count(*) FROM tasks GROUP BY ALL ORDER BY ALL")
    print(json.dumps({"runs": len(runs(cache)), "tasks": told}), flush=True)
    damaged = next(each for each in (folder / "cache/blobs").rglob("*") if each.is_file())
    subprocess.run(["mount", "-o", "remount,bind,rw", str(folder)], check=True)
    damaged.chmod(0o644)
    damaged.write_bytes(bytes(damaged.stat().st_size))
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    (second.session.cache.blobs.folder / damaged.relative_to(folder / "cache/blobs")).unlink()
    second.cell("%%process size(data) -> n from large\nn = len(data)")
    tell(second)
    subprocess.run(["umount", str(folder)], check=True)
    third = kernel(folder, 10)
    tell(third)
    third.close()
    be_read_while_it_runs(folder)


def be_read_while_it_runs(folder: Path) -> None:
    """An owner's run goes on while somebody who may only read looks, and wants to meddle."""
    gate, elsewhere = folder.parent / "gate", folder.parent / "elsewhere"
    owner = Notebook(folder, "live")
    owner.cell("%channel src = of(1)")
    owner.cell(
        "%%process waits(v) -> out from src\nimport os, time\n"
        f"while not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\nout = v"
    )
    run = owner.session.start()
    elsewhere.mkdir()
    subprocess.run(["mount", "--bind", str(folder), str(elsewhere)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(elsewhere)], check=True)
    reader = Notebook(elsewhere, "live")
    cache = reader.session.cache
    told = {"status": runs(cache)[0].status}
    for name, meddle in (
        ("cancel", lambda: request_cancel(cache, run.name)),
        ("resume", lambda: reader.session.resume(run.name)),
    ):
        try:
            meddle()
        except RunError as error:
            told[name] = str(error)
    gate.touch()
    run.wait(PATIENCE_S)
    told["after"] = runs(cache)[0].status
    print(json.dumps(told), flush=True)
    owner.close()
    reader.close()


def put_results(folder: Path, directive: str) -> None:
    """Four results, of which two fit into the folder; then there is room."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(11_000_000))
    notebook = Notebook(folder.parent / "notebook")
    notebook.cell("%channel src = of(0, 1, 2, 3)")
    notebook.cell(
        '%%process work(v) -> made: path = "made{v}" from src --bash\n'
        f"#| {directive}: {folder}/out\n"
        'head -c 1000000 /dev/zero | tr "\\0" "$v" > "made$v"'
    )
    notebook.cell("%%process size(made: path) -> n from work\nn = made.stat().st_size")
    tell(notebook)
    ballast.unlink()
    tell(notebook)
    there = [each.read_bytes() == b"%d" % n * 1_000_000
             for n, each in enumerate(sorted((folder / "out").glob("made*")))]  # fmt: skip
    print(json.dumps({"there": there}), flush=True)
    notebook.close()


def work_elsewhere(folder: Path) -> None:
    """Tasks run on another disk than that of the cache: it is full, has no inode left, has room."""
    scratch = folder / "out"
    scratch.mkdir()
    notebook = Notebook(folder.parent / "notebook")
    notebook.cell(f"%%process work() -> n --bash --scratch {scratch}\nn=1")
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    tell(notebook)
    ballast.write_bytes(b"")
    for inodes in (3, 100):
        command = ["mount", "-o", f"remount,nr_inodes={inodes}", str(folder)]
        subprocess.run(command, check=True)
        tell(notebook)
    notebook.close()


def put_results_into_a_volume(folder: Path) -> None:
    """Results folders are another mount of the file system that the cache is on."""
    (folder / "volume").mkdir()
    (folder / "out").mkdir()
    subprocess.run(["mount", "--bind", str(folder / "volume"), str(folder / "out")], check=True)
    notebook = Notebook(folder)
    notebook.cell(
        "%%process work() -> made: path, sub: path --bash\n"
        "#| publish: out/copy\n#| publish: out/link, mode=symlink\n#| store: out/stored\n"
        f"#| scratch: {folder}/out\necho 1 > made; mkdir sub; touch sub/x; ln -s x sub/link"
    )
    tell(notebook)
    places = sorted(str(each.relative_to(folder / "out")) for each in (folder / "out").rglob("*"))
    print(json.dumps({"there": places}), flush=True)
    notebook.close()


if __name__ == "__main__":
    place, how = Path(sys.argv[1]), sys.argv[2]
    if how in ("publish", "store"):
        (place.parent / "notebook").mkdir()
        put_results(place, how)
    elif how == "scratch":
        (place.parent / "notebook").mkdir()
        work_elsewhere(place)
    elif how == "volume":
        put_results_into_a_volume(place)
    elif how == "inodes":
        run_out_of_inodes(place)
    elif how == "filled":
        be_filled(place)
    elif how == "clean":
        clean_up_full(place)
    elif how == "read-only":
        become_read_only(place)
    else:
        fill_up(place)
