"""Start a server as a process, wait until it serves, and stop it with all that it started."""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def serving(
    command: Sequence[str], ready: str, env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a program; gives what it prints after `ready` on the line that says that it serves."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.PIPE,  # which it may watch: it closes when this process dies
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = _wait_until(process, ready)
        assert process.stdout is not None
        threading.Thread(target=process.stdout.read, daemon=True).start()  # or it would wait
        yield said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def python(module: str, *words: str) -> list[str]:
    """Return the command that runs a module of the tests."""
    return [sys.executable, "-u", "-m", module, *words]


def free_port() -> int:
    """Return a port for a server that cannot be given one by the system and tell which.

    It lies below those that systems give away by themselves, to sockets of any process: one of
    these could be gone before the server has started.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _wait_until(process: subprocess.Popen[str], ready: str) -> str:
    """Read by pieces: of two lines that come at once the second would lie in a buffer, unseen."""
    assert process.stdout is not None
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(PATIENCE_S):
            piece = os.read(process.stdout.fileno(), 65_536)
            said += piece
            if not piece:
                break
            _, _, behind = said.partition(ready.encode())
            if b"\n" in behind:
                return behind.partition(b"\n")[0].decode().strip()
    text = said.decode(errors="replace")
    raise RuntimeError(f"{process.args!r} does not serve; it said:\n{text}")
