"""The supervisor: a small single-threaded process that forks workers and buries them.

Forking from here costs milliseconds however large the kernel is, and is safe because nothing here
has threads. It holds one end of a socket to the kernel: when the kernel is gone, however it
went, every worker's whole tree is killed and the supervisor ends. It runs in a session of its own,
so the kernel's interrupt never reaches a worker.

Requests and answers are 20 bytes each (`MESSAGE`): a verb, a worker's number, an argument. A FORK
carries two file descriptors: the worker's socket and its pipe of tokens (`executors.handle`).
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import shutil
import signal
import socket
import struct
import sys
import time

from nbcache.engine.executors.worker import worker_main
from nbcache.engine.work.process_tree import become_subreaper, children, descendants, send_signal

MESSAGE = struct.Struct("<4sqq")
FORK, KILL, BORN, EXIT = b"FORK", b"KILL", b"BORN", b"EXIT"
LAST_GRACE_S = 0.5


class Supervisor:
    """Forks workers on request and reports their ends."""

    def __init__(self, control: socket.socket, root: str, crash_folder: str) -> None:
        self._control, self._root, self._crash_folder = control, root, crash_folder
        self._workers: dict[int, int] = {}  # pid -> number
        self._doomed: dict[int, float] = {}  # pid -> when to send SIGKILL
        self._ended: list[tuple[int, int, float]] = []  # number, status, when its orphans die
        wake, self._wake = socket.socketpair()
        self._woken = wake
        wake.setblocking(False)
        self._wake.setblocking(False)

    def serve(self) -> None:
        """Work until the kernel's end closes or SIGTERM comes."""
        become_subreaper()
        gc.collect()
        gc.freeze()  # what is imported is shared by all workers, and never looked at again
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        try:
            while self._turn(poll):
                pass
        finally:
            self._end_all()
            shutil.rmtree(self._crash_folder, ignore_errors=True)  # nobody asks any more

    def _stop(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RD)

    def _turn(self, poll: select.poll) -> bool:
        due = [*self._doomed.values(), *(at for _, _, at in self._ended)]
        wait = max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None
        for descriptor, _ in poll.poll(wait):
            if descriptor == self._woken.fileno():
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(4096)
            elif not self._request():
                return False
        self._bury()
        self._execute()
        return True

    def _request(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE.size, 2)
        except OSError:
            return False
        if len(data) < MESSAGE.size:
            return False
        verb, number, argument = MESSAGE.unpack(data)
        if verb == FORK:
            self._fork(number, descriptors)
        elif verb == KILL:
            self._kill(number, argument / 1000)
        return True

    def _fork(self, number: int, descriptors: list[int]) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_worker(number, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self._workers[pid] = number
        self._tell(BORN, number, pid)

    def _become_worker(self, number: int, descriptor: int, tokens: int) -> None:
        """In the child: leave everything of the supervisor behind. Never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()
            for held in (self._control, self._woken, self._wake):
                held.close()
            if os.getppid() == 1:
                return
            link = socket.socket(fileno=descriptor)
            link.set_inheritable(False)
            os.set_inheritable(tokens, False)
            worker_main(link, tokens, self._root, crash_path(self._crash_folder, number))
            code = 0
        except BrokenPipeError:
            code = 0  # the kernel closed in the middle of a message
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def _kill(self, number: int, grace_s: float) -> None:
        """Send SIGTERM to a worker's whole tree, SIGKILL after the grace time.

        The worker comes first, so that it does not report the end of its script as a failure.
        """
        for pid, each in self._workers.items():
            if each == number:
                if grace_s > 0:
                    send_signal([pid, *descendants(pid)], signal.SIGTERM)
                self._doomed[pid] = min(
                    self._doomed.get(pid, float("inf")), time.monotonic() + grace_s
                )

    def _execute(self) -> None:
        """Kill those whose grace time is over."""
        now = time.monotonic()
        for pid, at in list(self._doomed.items()):
            if at <= now:
                del self._doomed[pid]
                send_signal([pid, *descendants(pid)], signal.SIGKILL)

    def _bury(self) -> None:
        """Reap what has ended; a worker counts as ended when its whole tree is gone.

        What a dead worker left behind is now a child of this process.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            if pid in self._workers:
                kill_at = self._doomed.pop(pid, 0.0)
                self._ended.append((self._workers.pop(pid), status, kill_at))
        if not self._ended:
            return
        orphans = [pid for pid in children(os.getpid()) if pid not in self._workers]
        if not orphans:
            for number, status, _ in self._ended:
                self._tell(EXIT, number, status)
            self._ended.clear()
        elif min(at for _, _, at in self._ended) <= time.monotonic():
            for orphan in orphans:
                send_signal([orphan, *descendants(orphan)], signal.SIGKILL)
            soon = time.monotonic() + 0.05
            self._ended = [(number, status, max(at, soon)) for number, status, at in self._ended]

    def _tell(self, verb: bytes, number: int, argument: int) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(MESSAGE.pack(verb, number, argument))

    def _end_all(self) -> None:
        """End everything: SIGTERM, then SIGKILL until no process is left below this one."""
        send_signal(descendants(os.getpid()), signal.SIGTERM)
        kill_at = time.monotonic() + LAST_GRACE_S
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid:
                continue
            if time.monotonic() >= kill_at:
                send_signal(descendants(os.getpid()), signal.SIGKILL)
            if time.monotonic() >= kill_at + 5.0:
                return  # only what cannot be killed is left
            select.select([self._woken], [], [], 0.02)
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)


def crash_path(folder: str, number: int) -> str:
    """Return where a worker writes its traceback when a signal kills it."""
    return os.path.join(folder, f"crash-{number}")


def main(arguments: list[str]) -> None:
    """Be the supervisor: arguments are the socket's descriptor, cache root, crash folder."""
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    Supervisor(control, arguments[1], arguments[2]).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
