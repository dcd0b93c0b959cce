"""The supervisor as the kernel sees it: its process, the socket to it, where workers leave crashes.

Starts it, passes requests on and says what it answers; what follows from that is the executor's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from nbcache.engine.executors.supervisor import BORN, EXIT, FORK, KILL, MESSAGE, crash_path
from nbcache.engine.identity.python_itself import python_flags
from nbcache.store.cache import Cache
from nbcache.store.files import close_in_children, owned_name

CLOSE_S = 10.0  # if it were killed, what scripts had started would live on

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "  # this very nbcache, not an installed one
    "from nbcache.engine.executors.supervisor import main; "
    "sys.path.append(sys.path.pop(0)); main(sys.argv[2:])"
)


def start_python(
    code: str, arguments: Sequence[str], descriptor: int, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start an interpreter like this one, in a session of its own, that keeps one descriptor."""
    return subprocess.Popen(
        [sys.executable, "-P", *python_flags(), "-c", code, *arguments],
        pass_fds=(descriptor,),
        stdin=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )


class Listener(Protocol):
    """Who is told what the supervisor says; called on the loop's thread."""

    def born(self, number: int, pid: int) -> None:
        """A worker lives."""

    def buried(self, number: int, status: int) -> None:
        """A worker and all below it are gone; `status` is what waitpid gave."""

    def supervisor_died(self) -> None:
        """Somebody killed the supervisor, and its workers died with it."""


class SupervisorHandle:
    """A supervisor that has been started."""

    def __init__(self, cache: Cache, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        self._loop, self._listener = loop, listener
        self._crash_folder = str(cache.tmp / owned_name("crash"))
        os.mkdir(self._crash_folder)
        self._control, theirs = socket.socketpair()
        close_in_children(self)
        self._answers = b""
        package = str(Path(__file__).resolve().parents[3])
        arguments = [package, str(theirs.fileno()), str(cache.root), self._crash_folder]
        environment = {**os.environ, "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}
        self.process = start_python(_START, arguments, theirs.fileno(), environment)
        theirs.close()
        loop.add_reader(self._control, self._answered)

    def fork(self, number: int, descriptors: Sequence[int]) -> None:
        """Ask for a worker that gets these descriptors: its socket, and its pipe of tokens."""
        with contextlib.suppress(ConnectionError):  # it was killed: `supervisor_died` comes
            socket.send_fds(self._control, [MESSAGE.pack(FORK, number, 0)], descriptors)

    def kill(self, number: int, grace_s: float) -> None:
        """Ask for the end of a worker: SIGTERM, and SIGKILL after the grace time."""
        with contextlib.suppress(OSError):
            self._control.sendall(MESSAGE.pack(KILL, number, int(grace_s * 1000)))

    def crash_path(self, number: int) -> str:
        """Return the file in which a worker leaves its traceback when it crashes."""
        return crash_path(self._crash_folder, number)

    async def close(self) -> None:
        """End it, and all below it; kills it where it takes longer than `CLOSE_S`."""
        self._hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.process.wait, CLOSE_S)
        if self.process.poll() is None:
            self.process.kill()
        self.bury()

    def close_in_child(self) -> None:
        """Let go of the socket in a forked child, which may outlive the kernel. The loop is not
        asked: what it watches is the parent's, too."""
        self._control.close()

    def bury(self) -> None:
        """Clear away what is left of a supervisor that has ended."""
        self._hang_up()
        self.process.wait()
        shutil.rmtree(self._crash_folder, ignore_errors=True)

    def _hang_up(self) -> None:
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control)
            self._control.close()

    def _answered(self) -> None:
        try:
            data = self._control.recv(MESSAGE.size * 64)
        except OSError:
            data = b""
        if not data:
            self._listener.supervisor_died()
            return
        data = self._answers + data
        whole = len(data) // MESSAGE.size * MESSAGE.size
        self._answers = data[whole:]
        for verb, number, argument in MESSAGE.iter_unpack(data[:whole]):
            if verb == BORN:
                self._listener.born(number, argument)
            elif verb == EXIT:
                self._listener.buried(number, argument)
