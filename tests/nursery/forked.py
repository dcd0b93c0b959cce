"""Supervisors for the tests of a process, forked from one that has already imported what they need.

Starting an interpreter takes most of the time of a test with a small run. What is forked is an
ordinary supervisor in every other way: a process in a session of its own, with the environment,
the folder and the descriptors that a started one would have. Kernels and shells, of which the
tests in `tests/kernels`, `tests/faults` and `tests/cli` have many, start theirs as users' do.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence

import pytest

from nbcache.engine.executors import supervisor_handle
from nbcache.engine.executors.supervisor_handle import start_python
from nbcache.engine.identity.python_itself import python_flags
from tests.nursery.mother import PID, Inherited

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from tests.nursery.mother import serve; sys.path.append(sys.path.pop(0)); "
    "serve(int(sys.argv[2]))"
)
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ")  # variables that only a new process obeys


class Forked:
    """A supervisor that was forked: what `subprocess.Popen` shows of one that was started, but for
    its exit code: it is no child of this process, so 0 says only that it has ended."""

    def __init__(self, pid: int, end: int) -> None:
        self.pid, self._end = pid, end

    def poll(self) -> int | None:
        return 0 if select.select([self._end], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        if not select.select([self._end], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("supervisor", timeout or 0.0)
        return 0

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._end, signal.SIGKILL)

    def __del__(self) -> None:
        os.close(self._end)


class Nursery:
    """Forks supervisors from a process that is started with the first, and again if it dies."""

    def __init__(self) -> None:
        self._orders: socket.socket | None = None
        self._mother: subprocess.Popen[bytes] | None = None
        self._like: tuple[object, ...] = ()
        self._lock = threading.Lock()

    def start(
        self, code: str, arguments: Sequence[str], descriptor: int, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes] | Forked:
        """Start a supervisor, as `start_python` does; `arguments` are its package and its own."""
        package, _, *own = arguments
        with self._lock:
            if self._mother is None or self._mother.poll() is not None:
                self.close()
                self._begin(package, environment)
        if self._like != _likeness(environment):
            return start_python(code, arguments, descriptor, environment)
        return self._fork(own, descriptor, environment)

    def _begin(self, package: str, environment: Mapping[str, str]) -> None:
        self._orders, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            arguments = [package, str(descriptor)]
            self._mother = start_python(_START, arguments, descriptor, environment)
        self._like = _likeness(environment)

    def _fork(
        self, arguments: Sequence[str], control: int, environment: Mapping[str, str]
    ) -> Forked:
        assert self._orders is not None
        ours, theirs = socket.socketpair()
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        with ours, theirs:
            try:
                given = [control, 1, 2, folder, theirs.fileno()]
                with self._lock:
                    socket.send_fds(self._orders, [b"f"], given)
            finally:
                os.close(folder)
            ours.sendall(pickle.dumps((arguments, dict(environment), Inherited.of_this_process())))
            theirs.close()
            said, ends, _, _ = socket.recv_fds(ours, PID.size, 1)
        assert ends, "the process that forks supervisors has died"
        return Forked(*PID.unpack(said), *ends)

    def close(self) -> None:
        if self._orders is not None and self._mother is not None:
            self._orders.close()
            self._mother.wait()


def _likeness(environment: Mapping[str, str]) -> tuple[object, ...]:
    """Return what a process must have been started with to be forked from."""
    obeyed = {key: value for key, value in environment.items() if key.startswith(_AT_START)}
    return (obeyed, python_flags())


@contextlib.contextmanager
def supervisors_are_forked() -> Iterator[None]:
    """As long as this is open, supervisors of this process are forked, where the system can."""
    if not hasattr(os, "pidfd_open"):
        yield
        return
    nursery = Nursery()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor_handle, "start_python", nursery.start)
        yield
    nursery.close()
