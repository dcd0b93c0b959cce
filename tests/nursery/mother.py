"""The process that forks supervisors on demand: all that they import is there already.

It has no threads and imports nothing else, so what it forks is what a started supervisor is.
"""

from __future__ import annotations

import gc
import os
import pickle
import re
import resource
import signal
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from nbcache.engine.executors.supervisor import main

DESCRIPTORS = 5  # the supervisor's socket, stdout, stderr, its folder, the socket of the order
PID = struct.Struct("<q")
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


@dataclass(frozen=True)
class Inherited:
    """What a started process would have from the one that starts it, besides its environment."""

    umask: int
    limits: dict[int, tuple[int, int]]

    @classmethod
    def of_this_process(cls) -> Inherited:
        status = Path("/proc/self/status").read_text()  # os.umask would change it, for all threads
        (umask,) = re.findall(r"^Umask:\s*(\d+)$", status, re.MULTILINE)
        return cls(int(umask, 8), {each: resource.getrlimit(each) for each in _LIMITS})

    def take_over(self) -> None:
        os.umask(self.umask)
        for each, limits in self.limits.items():
            if resource.getrlimit(each) != limits:
                resource.setrlimit(each, limits)


def serve(descriptor: int) -> None:
    """Fork a supervisor for each message, until the other end closes."""
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders = socket.socket(fileno=descriptor)
    while True:
        data, given, _, _ = socket.recv_fds(orders, 1, DESCRIPTORS)
        if not data:
            return
        if os.fork() == 0:
            orders.close()
            _be_supervisor(*given)
        for each in given:
            os.close(each)


def _be_supervisor(control: int, out: int, error: int, folder: int, order: int) -> NoReturn:
    """In the child: become what was ordered, say who it is, and work. Never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(out, 1)
        os.dup2(error, 2)
        os.fchdir(folder)
        for each in (out, error, folder):
            os.close(each)
        with socket.socket(fileno=order) as link, link.makefile("rb") as file:
            arguments, environment, inherited = pickle.load(file)
            inherited.take_over()
            os.environ.clear()
            os.environ.update(environment)
            end = os.pidfd_open(os.getpid())
            socket.send_fds(link, [PID.pack(os.getpid())], [end])
            os.close(end)
        main([str(control), *arguments])
        code = 0
    finally:
        os._exit(code)
