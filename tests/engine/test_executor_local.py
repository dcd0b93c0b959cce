"""The pool of worker processes: deaths, limits, leaks, ends. All with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbcache.engine.executors import limits
from nbcache.engine.executors.local import LocalExecutor
from nbcache.engine.identity.payload import OUT_OF_BAND, pickle_names, write_buffers
from nbcache.engine.spec import ProcessSpec
from nbcache.engine.work import process_tree
from nbcache.model.process import Output
from nbcache.model.row import AttemptRow
from nbcache.model.view import ShownChunk
from tests.engine.attempts import PATH, Bench
from tests.waiting import PATIENCE_S, is_alive, is_asleep, wait_until


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("pool") / "cache"
    bench = Bench(root, lambda root: LocalExecutor(root, workers=2, grace_s=0.2))
    yield bench
    bench.close()


def row_of(bench: Bench, attempt: str) -> AttemptRow:
    bench.cache.log.refresh()
    row = bench.cache.log.find_attempt(attempt)
    assert row is not None
    return row


def test_a_worker_that_dies_after_its_row_was_written_has_not_failed(bench: Bench) -> None:
    body = (
        "import os, signal\n"
        "import nbcache.engine.executors.worker as worker\n"
        "def die(self, message):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "worker.Worker._send = die\n"
        "y = 'kept'"
    )
    spec, future = bench.start(bench.process(body))
    report = bench.finish(future)

    assert report.outcome == "completed"
    assert bench.decoded(report.outputs["y"]) == "kept"
    assert row_of(bench, spec.id) == report.row


def test_a_value_is_kept_and_the_row_is_in_the_log_when_the_report_comes(bench: Bench) -> None:
    spec, future = bench.start(bench.process("y = bytes(x)"), {"x": 100_000})
    report = bench.finish(future)

    assert report.outcome == "completed"
    assert bench.decoded(report.outputs["y"]) == bytes(100_000)
    assert row_of(bench, spec.id) == report.row
    assert report.row is not None
    assert report.row.realtime is not None
    assert report.row.peak_rss is not None
    assert report.row.peak_rss > 1_000_000
    assert report.row.wchar in (0, None)  # what keeping it has written is not the body's


def test_how_long_a_task_took_is_measured_by_a_clock_that_nobody_sets(bench: Bench) -> None:
    body = "import time\nset = time.time_ns() + 3 * 3600 * 10**9\ntime.time_ns = lambda: set\ny = 1"
    _, future = bench.start(bench.process(body))
    row = bench.finish(future).row

    assert row is not None
    assert row.realtime is not None
    assert row.start is not None
    assert row.complete is not None
    assert 0 <= row.realtime < 3600 < (row.complete - row.start) / 1e6


@pytest.mark.parametrize(
    ("body", "name", "meaning"),
    [
        ("import ctypes\nctypes.string_at(0)", "SIGSEGV", "segmentation fault"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "SIGKILL", "memory ran out"),
        ("import os\nos.abort()", "SIGABRT", "aborted"),
    ],
)
def test_a_worker_that_dies_fails_its_attempt_only_and_the_signal_is_named(
    bench: Bench, body: str, name: str, meaning: str
) -> None:
    slow = bench.start(bench.process("import time\ntime.sleep(0.3)\ny = 'alive'"))[1]
    cell = "/tmp/7/1.py"
    spec, future = bench.start(bench.process(body, filename=cell, cells={cell: "cell [4]"}))

    report = bench.finish(future)

    assert (report.outcome, report.signal) == ("failed", name)
    assert name == "SIGKILL" or "\n  cell [4], line 2 in <module>\n" in (report.traceback or "")
    assert report.error is not None
    assert name in report.error
    assert meaning in report.error
    assert row_of(bench, spec.id).signal == name
    assert bench.finish(slow).outcome == "completed"
    assert bench.value(bench.process("y = 'next'")) == "next"


def test_the_line_that_crashed_is_named(bench: Bench) -> None:
    process = bench.process("import ctypes\n\nctypes.string_at(0)\n", body_line=3, filename="<fit>")
    report = bench.run(process)

    assert report.where == (5, "ctypes.string_at(0)")


def test_a_body_that_ends_the_process_fails_with_the_exit_code(bench: Bench) -> None:
    report = bench.run(bench.process("import os\nos._exit(7)"))

    assert (report.outcome, report.exit) == ("failed", 7)


def test_what_was_printed_before_a_crash_is_kept(bench: Bench) -> None:
    report = bench.run(bench.process("print('so far', flush=True)\nimport os\nos.abort()"))

    assert report.row is not None
    assert report.row.shown is not None
    assert b"so far" in (report.row.shown.inline or b"")


def test_a_time_limit_ends_the_whole_tree(bench: Bench, tmp_path: Path) -> None:
    body = (
        "import os, subprocess\n"
        "script = 'setsid sleep 600 & echo $! > ' + where + '; wait'\n"
        "child = subprocess.Popen(['bash', '-c', script])\n"
        "child.wait()"
    )
    where = tmp_path / "pid"
    for limit in (0.5, 5.0, 50.0):  # until the body comes so far within it
        spec, future = bench.start(bench.process(body), {"where": str(where)}, time=limit)
        report = bench.finish(future)
        if where.exists() and where.read_text():
            break

    assert report.outcome == "failed"
    assert report.error == f"killed: time limit of {limit:g} s exceeded"
    assert row_of(bench, spec.id).error == report.error
    assert (row_of(bench, spec.id).peak_rss or 0) > 10_000_000
    assert not is_alive(int(where.read_text()))


def test_a_script_that_ignores_sigterm_is_killed_after_the_grace_time(
    bench: Bench, tmp_path: Path
) -> None:
    where = tmp_path / "pid"
    script = bench.script('trap "" TERM\necho $$ > "$where"\nwhile true; do sleep 0.05; done')

    for limit in (1.0, 10.0, 100.0):  # until the script comes so far within it
        report = bench.run(script, {"where": str(where)}, time=limit)
        if where.exists() and where.read_text():
            break

    assert report.outcome == "failed"
    assert "time limit" in (report.error or "")
    assert not is_alive(int(where.read_text()))


def test_a_body_that_catches_sigterm_is_still_said_to_be_over_its_time(bench: Bench) -> None:
    body = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit('asked to stop'))\ntime.sleep(600)"
    )
    report = bench.run(bench.process(body), time=0.3)

    assert report.outcome == "failed"
    assert report.error == "killed: time limit of 0.3 s exceeded"


def test_a_killed_attempt_is_aborted_and_its_row_says_so_also_after_its_run_broke_off(
    bench: Bench,
) -> None:
    begun: list[ShownChunk] = []
    process = bench.process("print('begun', flush=True)\nimport time\ntime.sleep(600)")
    spec, future = bench.start(process, shown=begun.extend)
    bench.until(lambda: bool(begun))

    bench.executor.kill(spec.id, "the run broke off")
    bench.executor.forget(process.key)
    report = bench.finish(future)

    assert report.outcome == "aborted"
    assert row_of(bench, spec.id).status == "aborted"


def test_an_attempt_above_its_memory_is_killed(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "cache", lambda root: LocalExecutor(root, workers=1, grace_s=0.1))
    try:
        body = "block = bytearray(400_000_000)\nimport time\ntime.sleep(600)"
        report = bench.run(bench.process(body), memory=200_000_000)
    finally:
        bench.close()

    assert report.outcome == "failed"
    assert "memory limit of 200 MB exceeded" in (report.error or "")


def test_a_look_at_the_memory_of_an_attempt_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes seconds where many forks share much, and downloads may hold the loop's threads."""
    began, ended = threading.Event(), threading.Event()
    in_time: list[bool] = []
    looked: list[int] = []

    def look(pid: int, **_: object) -> int:
        looked.append(pid)
        if pid != looked[0]:
            return 300_000_000
        began.set()
        in_time.append(ended.wait(PATIENCE_S))
        return 0

    async def hold_all_threads() -> None:
        for _ in range(64):
            asyncio.get_running_loop().run_in_executor(None, ended.wait, PATIENCE_S)

    monkeypatch.setattr(limits, "resident_bytes", look)
    bench = Bench(tmp_path / "cache", lambda root: LocalExecutor(root, workers=2, grace_s=0.1))
    try:
        bench.wait(hold_all_threads())
        gate = tmp_path / "gate"
        body = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\ny = 1"
        _, looked_at = bench.start(bench.process(body), memory=200_000_000)
        bench.until(began.is_set)
        assert bench.run(bench.process("y = 2")).outcome == "completed"
        above = bench.run(bench.process("import time\ntime.sleep(600)"), memory=200_000_000)
        assert "memory limit of 200 MB exceeded" in (above.error or "")
        ended.set()
        gate.touch()
        assert bench.finish(looked_at).outcome == "completed"
    finally:
        ended.set()
        bench.close()
    assert in_time[0]


def test_memory_that_processes_share_counts_once(tmp_path: Path) -> None:
    """Also of one that has been started and is not yet a program of its own (`vfork`)."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = (
        "import os, sys\nblock = b'1' * 100_000_000\n"
        "if not os.fork():\n    sys.stdin.read()\n    os._exit(0)\n"
        "opens = (os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)\n"
        "os.posix_spawn('/bin/sh', ['sh', '-c', ''], {}, file_actions=[opens])\n"
    )
    command = [sys.executable, "-c", program, str(gate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            both = 2 * [True]
            wait_until(lambda: [*map(is_asleep, process_tree.children(process.pid))] == both)
            each_for_itself = process_tree.resident_bytes(process.pid)
            together = process_tree.resident_bytes(process.pid, exactly=True)
        finally:
            all_of_them = [*process_tree.descendants(process.pid), process.pid]
            process_tree.send_signal(all_of_them, signal.SIGKILL)

    assert 200_000_000 < each_for_itself < 270_000_000, "of two processes, and not of three"
    assert 100_000_000 < together < 150_000_000


def test_processes_that_a_body_leaves_behind_are_dead_when_it_is_reported(
    bench: Bench, tmp_path: Path
) -> None:
    body = (
        "import subprocess\n"
        "p = subprocess.Popen(['setsid', 'bash', '-c', 'echo $$; sleep 600 & echo $!; wait'],"
        " stdout=subprocess.PIPE, text=True)\n"
        "y = [int(p.stdout.readline()), int(p.stdout.readline())]"
    )
    pids = bench.value(bench.process(body))

    assert [is_alive(pid) for pid in pids] == [False, False]


LEAKS = {
    "environment": ("import os\nos.environ['LEAK'] = '1'", "import os\ny = os.environ.get('LEAK')"),
    "deleted variable": (
        "import os\ndel os.environ['PATH']",
        "import os\ny = None if 'PATH' in os.environ else 'gone'",
    ),
    "folder": (
        "import os\nos.chdir('/')",
        "import os\ny = None if os.path.basename(os.getcwd())[:2] == 'w-' else os.getcwd()",
    ),
    "umask": (
        "import os\nos.umask(0o777)",
        "import os\nm = os.umask(0o22)\ny = m if m == 0o777 else None",
    ),
    "signal handler": (
        "import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)",
        "import signal\ny = None if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL else 'set'",
    ),
    "warning filter": (
        "import warnings\nwarnings.simplefilter('error')",
        "import warnings\nwarnings.warn('w')\ny = None",
    ),
    "import path": (
        "import sys\nsys.path.append('/leak')",
        "import sys\ny = '/leak' if '/leak' in sys.path else None",
    ),
    "builtin": (
        "import builtins\nbuiltins.leak = 1",
        "import builtins\ny = getattr(builtins, 'leak', None)",
    ),
    "module attribute": (
        "import math\nmath.leak = 1",
        "import math\ny = getattr(math, 'leak', None)",
    ),
    "module by setattr": (
        "import string\nsetattr(string, 'leak', 1)",
        "import string\ny = getattr(string, 'leak', None)",
    ),
    "registration": (
        "import mimetypes\nmimetypes.add_type('a/leak', '.leak')",
        "import mimetypes\ny = mimetypes.guess_type('a.leak')[0]",
    ),
    "registration by name": (
        "from codecs import register_error\nregister_error('leak', lambda e: ('', e.end))",
        "import codecs\ntry:\n    codecs.lookup_error('leak')\n    y = 1\n"
        "except LookupError:\n    y = None",
    ),
    "variable behind os.environ": (
        "import os\nos.putenv('LEAK', '1')",
        "import subprocess\ny = subprocess.getoutput('echo $LEAK') or None",
    ),
    "descriptors": (
        "import os\nfor _ in range(99):\n    os.open('/', 0)",
        "import os\ny = os.open('/', 0)\nos.close(y)\ny = y if y > 99 else None",
    ),
    "timer": (
        "import threading\ndef later(): pass\nt = threading.Timer(9999, later)\n"
        "t.daemon, t.name = True, 'later'\nt.start()",
        "import threading\ny = None\nif any(t.name == 'later' for t in threading.enumerate()):\n"
        "    y = 'later'",
    ),
    "body's own global": ("leak = 1", "y = globals().get('leak')"),
    "numpy errors": (
        "import numpy\nnumpy.seterr(all='raise')",
        "import numpy\ny = None if numpy.geterr()['divide'] == 'warn' else 'raise'",
    ),
    "logging": (
        "import logging\nlogging.basicConfig(level=10)",
        "import logging\ny = logging.getLogger().handlers or None",
    ),
    "locale": (
        "import locale\nlocale.setlocale(locale.LC_ALL, 'C')",
        "import locale\ny = None",
    ),
    "alarm": ("import signal\nsignal.alarm(1)", "import time\ntime.sleep(1.2)\ny = None"),
    "time zone": (
        "import os, time\nos.environ['TZ'] = 'Asia/Tokyo'\ntime.tzset()",
        "import time\ny = None if time.tzname[0] != 'JST' else 'Tokyo'",
    ),
    "open files": (
        "import resource\nhard = resource.getrlimit(7)[1]\nresource.setrlimit(7, (64, hard))",
        "import resource\ny = None if resource.getrlimit(7)[0] != 64 else 64",
    ),
    "priority": ("import os\nos.nice(3)", f"import os\ny = os.nice(0) - {os.nice(0)} or None"),
    "signal mask": (
        "import signal\nsignal.pthread_sigmask(0, [signal.SIGUSR1])",
        "import signal\ny = signal.pthread_sigmask(0, []) or None",
    ),
    "garbage": ("import gc\ngc.disable()", "import gc\ny = None if gc.isenabled() else 'off'"),
    "socket": (
        "import socket\nsocket.setdefaulttimeout(3)",
        "import socket\ny = socket.getdefaulttimeout()",
    ),
    "start method": (
        "import multiprocessing as m\nm.set_start_method('spawn', force=True)",
        "import multiprocessing as m\ny = m.get_start_method(allow_none=True)",
    ),
    "daemon": (
        "import threading, time\ndef noise():\n    while True:\n        time.sleep(0.001)\n"
        "threading.Thread(target=noise, name='noise', daemon=True).start()",
        "import threading\ny = None\nif any(t.name == 'noise' for t in threading.enumerate()):\n"
        "    y = 'noise'",
    ),
    "decimal": (
        "import decimal\ndecimal.getcontext().prec = 3",
        "import decimal\ny = decimal.getcontext().prec\ny = None if y == 28 else y",
    ),
}


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("one") / "cache"
    bench = Bench(root, lambda root: LocalExecutor(root, workers=1))
    yield bench
    bench.close()


@pytest.mark.parametrize("what", LEAKS)
def test_nothing_leaks_to_the_next_task_of_a_warm_worker(one_worker: Bench, what: str) -> None:
    leak, probe = LEAKS[what]

    assert one_worker.run(one_worker.process(leak, [])).outcome == "completed"

    assert one_worker.value(one_worker.process(probe)) is None


def test_a_result_is_what_the_body_made_also_where_it_broke_the_builtins(one_worker: Bench) -> None:
    process = one_worker.process("import builtins\nbuiltins.len = lambda _: 0\n[1, 2]")

    assert one_worker.value(process) == [1, 2]


def test_a_mutated_captured_object_is_fresh_in_the_next_task(one_worker: Bench) -> None:
    process = one_worker.process("items.append(x)\ny = items", captured={"items": [0]})

    assert one_worker.value(process, {"x": 1}) == [0, 1]
    assert one_worker.value(process, {"x": 2}) == [0, 2]


def test_a_local_module_that_a_task_changed_is_fresh_in_the_next(
    one_worker: Bench, tmp_path: Path
) -> None:
    (tmp_path / "leaky_helper.py").write_text("seen = []\ncount = 0\n")
    body = (
        "import leaky_helper\nleaky_helper.seen.append(1)\n"
        "exec('leaky_helper.count += 1')\ny = len(leaky_helper.seen) + leaky_helper.count"
    )
    process = one_worker.process(body, sys_path=(str(tmp_path), *sys.path))

    assert [one_worker.value(process), one_worker.value(process)] == [2, 2]


def test_a_worker_stays_warm_between_tasks_that_leave_nothing(one_worker: Bench) -> None:
    process = one_worker.process("import os\ny = os.getpid()")

    assert one_worker.value(process) == one_worker.value(process)


def test_mapped_arrays_and_code_that_is_never_sent_cost_no_worker(
    one_worker: Bench, tmp_path: Path
) -> None:
    source = (
        "from json import tool as table\nimport json\n"
        "def seed_all():\n    json.benchmark = True\n"
        "def clean(x):\n    table = {}\n    table['a'] = x\n    return x\n"
        "def changes(x):\n    json.leak = x\n"
    )
    cell: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, "<cell>", "exec"), cell)
    parts = [np.full(OUT_OF_BAND // 8, float(i)) for i in range(70)]
    arrays = pickle_names({"parts": parts}, {})
    paths = tuple(map(str, write_buffers(arrays.buffers, tmp_path)))

    def calling(name: str) -> ProcessSpec:
        captured = {name: cell[name]}
        return one_worker.process(f"y = {name}(x)", captured=captured, sources={"<cell>": source})

    mapping = one_worker.process("y = len(parts)", payload=arrays.data, buffers=paths)
    processes = [mapping, calling("clean"), calling("changes")]

    retired = [one_worker.run(each, {"x": 1}).retire for each in processes]

    assert retired == [False, False, True]


def test_random_numbers_differ_between_tasks_and_repeat_with_a_seed(one_worker: Bench) -> None:
    body = "import random, numpy\ny = [random.random(), float(numpy.random.rand())]"
    free, seeded = one_worker.process(body), one_worker.process(body, seed=7)

    assert one_worker.value(free) != one_worker.value(free)
    assert one_worker.value(seeded) == one_worker.value(seeded)


def test_stdout_and_stderr_come_live_and_in_order(bench: Bench) -> None:
    chunks: list[ShownChunk] = []
    body = (
        "import sys, subprocess\n"
        "print('a')\nprint('b', file=sys.stderr)\nprint('c')\n"
        "subprocess.run(['echo', 'd'])\nprint('e')\nimport time\nprint('live')\ntime.sleep(600)"
    )
    spec, future = bench.start(bench.process(body), shown=chunks.extend)

    bench.until(lambda: "live" in "".join(chunk.text for chunk in chunks))
    bench.executor.kill(spec.id, "seen")
    bench.finish(future)

    assert "".join(chunk.text for chunk in chunks).split() == ["a", "b", "c", "d", "e", "live"]
    assert "".join(chunk.text for chunk in chunks if chunk.stream == "stderr") == "b\n"


def test_workers_are_out_of_reach_of_the_kernel_s_interrupt(bench: Bench) -> None:
    group, session = bench.value(bench.process("import os\ny = [os.getpgid(0), os.getsid(0)]"))

    assert group != os.getpgid(0)
    assert session != os.getsid(0)


def test_workers_do_not_outlive_the_kernel(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys, time\n"
        "from pathlib import Path\n"
        "from tests.engine.attempts import Bench\n"
        "from nbcache.engine.executors.local import LocalExecutor\n"
        f"bench = Bench(Path({str(tmp_path / 'cache')!r}), lambda r: LocalExecutor(r, workers=2))\n"
        "process = bench.script('echo $$ $PPID; setsid sleep 600 & echo $!; wait')\n"
        "seen = []\n"
        "bench.start(process, shown=seen.extend)\n"
        "bench.until(lambda: ''.join(c.text for c in seen).count('\\n') == 2)\n"
        "pids = ''.join(c.text for c in seen).split()\n"
        "assert any(bench.executor._cache.tmp.iterdir())\n"
        "child = os.fork()  # as a pool of processes in a cell does\n"
        "if child:\n"
        "    print(child, *pids, bench.executor._supervisor.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    kernel = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert kernel.stdout is not None
    child, *pids = [int(word) for word in kernel.stdout.readline().split()]
    assert len(pids) == 4
    assert all(map(is_alive, pids))

    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    kernel.stdout.close()

    wait_until(lambda: not any(map(is_alive, pids)))
    os.kill(child, signal.SIGKILL)
    assert not list((tmp_path / "cache/tmp").iterdir())


def test_closing_ends_everything(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "cache", lambda root: LocalExecutor(root, workers=2))
    seen: list[ShownChunk] = []
    _, future = bench.start(bench.script("echo $$; sleep 600"), shown=seen.extend)
    bench.until(lambda: bool(seen))

    bench.wait(bench.executor.close())

    assert future.cancelled()
    assert not is_alive(int(seen[0].text))
    bench.close()
    assert os.listdir(bench.cache.work) == []


def test_a_killed_supervisor_fails_what_ran_and_is_replaced_at_the_next_need(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path / "cache", lambda root: LocalExecutor(root, workers=1))
    seen: list[ShownChunk] = []
    body = "print('x', flush=True)\nimport time\ntime.sleep(600)"
    _, future = bench.start(bench.process(body), shown=seen.extend)
    bench.until(lambda: bool(seen))
    executor = bench.executor
    assert isinstance(executor, LocalExecutor)
    assert executor._supervisor is not None

    executor._supervisor.process.kill()
    report = bench.finish(future)

    assert report.outcome == "failed"
    assert "supervisor" in (report.error or "")
    assert bench.value(bench.process("y = 1")) == 1

    executor._supervisor.process.kill()  # while nothing runs
    bench.until(lambda: executor._supervisor is None)
    assert bench.value(bench.process("y = 2")) == 2
    bench.close()


def test_many_small_attempts_each_end_once(bench: Bench) -> None:
    process = bench.process("y = x * x")

    async def all_of_them() -> list[int]:
        specs = [bench.attempt(process, {"x": n}) for n in range(200)]
        reports = await asyncio.gather(*(bench.executor.submit(spec) for spec in specs))
        return [bench.decoded(report.outputs["y"]) for report in reports]

    assert bench.wait(all_of_them()) == [n * n for n in range(200)]


def test_a_file_output_reaches_the_store_and_the_folder_is_empty_again(bench: Bench) -> None:
    before = bench.work_folders()
    process = bench.process("open('out.txt', 'w').write('hello')", [Output("y", PATH, "out.txt")])

    report = bench.run(process)

    assert bench.decoded(report.outputs["y"]) == "hello"
    assert report.outputs["y"].name == "out.txt"  # type: ignore[union-attr]
    assert bench.work_folders() == before
