"""Bodies that do what no body should: one attempt fails with its name, and nothing else."""

from __future__ import annotations

import pytest

from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook


def body(notebook: Notebook, text: str, options: str = "") -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell(f"%%process work(v) -> out from src {options}\n{text}")


def test_an_exception_that_cannot_be_printed_is_named_with_its_line(notebook: Notebook) -> None:
    body(
        notebook,
        "class Mute(Exception):\n    def __str__(self):\n        raise RuntimeError('no')\n"
        "out = v\nraise Mute",
    )
    (failure,) = notebook.run().failures
    assert failure.error.startswith("Mute")
    assert "raise Mute" in failure.where


def test_a_huge_message_is_cut(notebook: Notebook) -> None:
    body(notebook, "out = v\nraise ValueError('x' * 5_000_000)")
    (failure,) = notebook.run().failures
    assert len(failure.error) < 1000
    assert len(failure.traceback) < 100_000


def test_one_huge_print_is_cut_as_many_small_ones_are(notebook: Notebook) -> None:
    body(notebook, "print('x' * 20_000_000)\nout = v")
    ((_, _, chunks),) = notebook.run().shown("work")
    text = "".join(each.text for each in chunks)
    assert len(text) < 2_100_000
    assert "characters left out" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import ctypes\nctypes.string_at(0)\nout = v", "SIGSEGV"),
        ("import os\nos._exit(3)\nout = v", "exit code 3"),
        ("import sys\nsys.exit(4)\nout = v", "SystemExit: 4"),
        ("out = v\nraise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os\nos.closerange(0, 256)\nout = v", "the worker"),
        ("import builtins\nbuiltins.open = builtins.len = None\nout = open('x')", "TypeError"),
        # It waits: how soon a worker dies after its supervisor is the system's business.
        ("import os, signal\nos.kill(os.getppid(), 9)\nsignal.pause()\nout = v", "lost"),
        ("out = (n for n in range(3))", "a generator cannot be kept"),
        ("out = open('f', 'w+')", "a TextIOWrapper cannot be kept"),
        ("def again(): return again()\nout = again()", "RecursionError"),
    ],
)
def test_a_fault_fails_its_attempt_and_the_next_task_runs(
    notebook: Notebook, text: str, said: str
) -> None:
    body(notebook, text)
    run = notebook.run()
    assert run.status is RunStatus.FAILED
    assert said in run.failures[0].error
    body(notebook, "out = v + 1")
    assert notebook.run()["work"].value == 2


@pytest.mark.parametrize(
    "text",
    [
        "import os\nfor each in (0, 1, 2):\n    os.close(each)\nout = v",
        "import os\nos.chdir('/')\nout = v",
        "import os, shutil\nshutil.rmtree(os.getcwd())\nout = v",
        "import sys\nsys.stdout = None\nprint('x')\nout = v",
        "import sys\nsys.stdout.close()\nout = v",
        "import os\nos.umask(0o777)\nout = v",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(300,)).start()\nout = v",
        "import os, time\nif os.fork() == 0:\n    time.sleep(300)\nout = v",
        "import multiprocessing as mp, math\n"
        "with mp.get_context('fork').Pool(2) as pool:\n    pool.map(math.sqrt, [1, 4])\nout = v",
        "import multiprocessing as mp\n"  # nobody closes it: its thread replaces who is killed
        "pool = mp.get_context('fork').Pool(2)\nout = pool.map(abs, [-v])[0]",
        "import os\nos.dup2(os.open(os.devnull, os.O_WRONLY), 1)\nout = v",
        "import asyncio\nawait asyncio.sleep(0)\nout = v",
        "import warnings, logging\nwarnings.simplefilter('error')\nlogging.disable()\nout = v",
    ],
)
def test_what_a_body_leaves_behind_harms_no_later_task(notebook: Notebook, text: str) -> None:
    body(notebook, text)
    assert notebook.run()["work"].value == 1
    body(notebook, "import os\nprint(os.listdir())\nos.write(1, b'seen')\nout = v + 1")
    run = notebook.run()
    assert run["work"].value == 2
    assert run.shown("work")[0][2][0].text == "[]\nseen"


def test_a_time_limit_ends_a_body_that_ignores_signals(notebook: Notebook) -> None:
    body(
        notebook,
        "import signal\nout = v\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "--time 200ms",
    )
    run = notebook.run()
    assert "killed: time limit of 0.2 s exceeded" in run.failures[0].error
