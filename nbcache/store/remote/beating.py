"""A heartbeat in a process of its own, for as long as the process that started it lives.

A kernel that sorts for a minute holds the interpreter's lock for a minute, and none of its threads
beats. This process does nothing else. It ends with the pipe to its parent: killed or not, what the
parent had claimed is then free at once. While the parent is stopped (Ctrl-Z, a debugger) there is
no beat: nobody knows when the work goes on, so whoever waits takes over.

    python -m nbcache.store.remote.beating      its job is the first line of standard input

"""

from __future__ import annotations

import contextlib
import json
import os
import select
import selectors
import subprocess
import sys
from typing import IO, Any

from nbcache.errors import (
    AccessDeniedError,
    RemoteStoreError,
    StoreGoneError,
    StoreThrottledError,
    StoreUnavailableError,
)
from nbcache.store.remote.leases import BEAT_S, Heartbeat
from nbcache.store.remote.opening import open_store

_READY = "beating"
_START_S = 30.0
_END_S = 10.0
_KINDS = {kind.__name__: kind for kind in (AccessDeniedError, StoreGoneError, StoreThrottledError)}


class BeatingProcess:
    """Keeps the heartbeat `name` going on the store at `url`, opened with `options`."""

    def __init__(
        self, url: str, name: str, *, beat_s: float = BEAT_S, options: dict[str, Any] | None = None
    ) -> None:
        self.url, self.name, self.beat_s = url, name, beat_s
        self._options = options or {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; returns when the first beat is written.

        Raises:
            RemoteStoreError: it could not be; the text says why.
        """
        process = subprocess.Popen(
            # -P: a json.py in the folder of the notebook is not what this imports.
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt is for the kernel's work
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        job = {
            "url": self.url,
            "name": self.name,
            "beat_s": self.beat_s,
            "options": self._options,
            "of": os.getpid(),
        }
        with contextlib.suppress(OSError):  # what it said then says why
            process.stdin.write(_line(job))
            process.stdin.flush()
        os.set_blocking(process.stdin.fileno(), False)
        said = _line_within(process.stdout, _START_S)
        if said != _READY:
            self.stop()
            kind, reason = json.loads(said or '["", "the heartbeat does not start"]')
            raise _KINDS.get(kind, StoreUnavailableError)(
                self.url, "write", f"runs/{self.name}", reason
            )

    def say(self, progress: dict[str, Any]) -> None:
        """Let those who wait know how far the work is; goes out with the next beat.

        Never waits itself; what is too long to be written at once is not said.
        """
        line, process = _line(progress), self._process
        if process is not None and process.stdin is not None and len(line) <= select.PIPE_BUF:
            # It has died or is being stopped (ValueError: its pipe is closed): nobody waits for it.
            with contextlib.suppress(OSError, ValueError):
                os.write(process.stdin.fileno(), line)

    def stop(self) -> None:
        """End it; the heartbeat is gone then. Twice is harmless."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode("utf-8") + b"\n"


def _line_within(file: IO[bytes], seconds: float) -> str:
    """Return the next line of a pipe, "" if none comes in time."""
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        return (
            file.readline().decode("utf-8", "replace").strip() if selector.select(seconds) else ""
        )


def _is_stopped(process: int) -> bool:
    """Whether a process is there and does nothing until somebody lets it."""
    import psutil

    try:
        status = psutil.Process(process).status()
    except psutil.Error:
        return False
    return status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


def main() -> None:
    """Beat until standard input ends; each of its lines is what is said from then on."""
    job = json.loads(sys.stdin.readline())
    said: dict[str, Any] = {}
    try:
        store = open_store(job["url"], **job["options"])
        heartbeat = Heartbeat(
            store,
            job["name"],
            beat_s=job["beat_s"],
            says=lambda: said,
            goes_on=lambda: not _is_stopped(job["of"]),
        )
        heartbeat.start()
    except RemoteStoreError as error:
        print(json.dumps([type(error).__name__, error.reason]), flush=True)
        return
    print(_READY, flush=True)
    for line in sys.stdin:
        said = json.loads(line)
    heartbeat.stop()
    store.close()


if __name__ == "__main__":
    main()
