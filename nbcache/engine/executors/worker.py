"""A worker process: takes attempts from a socket, one at a time, until the socket closes.

Messages to it: ("process", ProcessSpec), ("run", token, AttemptSpec), ("forget", key), ("rotate",).
From it: ("begun", attempt) where it has a time limit, ("shown", attempt, chunks),
("report", AttemptReport). It ends by itself after a report that says `retire`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import traceback
from typing import Any

from nbcache.engine.executors.handle import TokenTaker
from nbcache.engine.executors.protocol import encode_frame, read_frame
from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec
from nbcache.engine.work.attempt import run_attempt
from nbcache.engine.work.process_tree import become_subreaper, die_with_parent
from nbcache.engine.work.python_body import error_line
from nbcache.engine.work.shown import Capture
from nbcache.engine.work.workplace import Workplace
from nbcache.errors import CannotKeepError
from nbcache.model.view import ShownChunk
from nbcache.store.files import told_plainly


class Worker:
    """The loop of a worker process."""

    def __init__(self, link: socket.socket, tokens: int, root: str) -> None:
        self._link, self._tokens = link, TokenTaker(tokens)
        self._lock = threading.Lock()
        self._attempt = ""
        self._processes: dict[str, ProcessSpec] = {}
        self._place = Workplace(root, Capture(self._shown))
        os.register_at_fork(after_in_child=self._forked)

    def serve(self) -> None:
        """Work until the other end closes."""
        try:
            self._serve()
        finally:
            self._place.close()

    def _serve(self) -> None:
        file = self._link.makefile("rb", buffering=1 << 16)
        while (message := read_frame(file)) is not None:
            kind = message[0]
            if kind == "run":
                if not self._tokens.may_begin(message[1]):
                    continue
                report = self._run(message[2])
                self._send(("report", report))
                if report.retire:
                    return
            elif kind == "process":
                self._processes[message[1].key] = message[1]
            elif kind == "forget":
                self._processes.pop(message[1], None)
                self._place.forget(message[1])
            elif kind == "rotate":
                self._place.journal.rotate()

    def _run(self, spec: AttemptSpec) -> AttemptReport:
        self._attempt = spec.id
        if spec.time is not None:
            self._send(("begun", spec.id))
        try:
            return run_attempt(spec, self._processes[spec.process], self._place)
        except Exception as failure:  # the store failed: nothing can be kept here
            error = told_plainly(failure, self._place.cache.root)
            return AttemptReport(
                id=spec.id,
                outcome="failed",
                error=error_line(error),
                traceback=traceback.format_exc(),
                retire=True,
                unkept=isinstance(error, CannotKeepError),
            )

    def _shown(self, chunks: list[ShownChunk]) -> None:
        self._send(("shown", self._attempt, chunks))

    def _send(self, message: tuple[Any, ...]) -> None:
        data = encode_frame(message)
        with self._lock:
            self._link.sendall(data)

    def _forked(self) -> None:
        """In a child that a body forked: it must not speak for the worker."""
        self._link.close()
        self._tokens.close()


def worker_main(link: socket.socket, tokens: int, root: str, crash: str) -> None:
    """Be a worker: called in a forked child of the supervisor, in a session of its own."""
    become_subreaper()
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    with contextlib.suppress(OSError):  # never those above: a cache that was deleted stays away
        os.mkdir(os.path.dirname(crash))  # a clean-up may have taken an old one
    with contextlib.suppress(OSError):  # on a full disk a death is told without its line
        report = open(crash, "wb", buffering=0)  # noqa: SIM115  stays open for the process's life
        faulthandler.enable(report, all_threads=False)
        faulthandler.register(signal.SIGTERM, report, all_threads=False, chain=True)
    sys.argv[:] = ["nbcache-worker"]
    Worker(link, tokens, root).serve()
