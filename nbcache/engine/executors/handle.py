"""A worker as the kernel sees it: its socket, what it knows, the attempts that were given to it.

Several attempts may be given to a worker; it runs one at a time. Whether an attempt has begun is
settled by a pipe that both ends read: the kernel writes a token (8 bytes) per attempt, the worker
takes the token just before it begins, and the kernel takes an attempt back by reading its token
first. A token is read once, so an attempt is never begun twice, and what had not begun when a
worker died is known exactly.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from dataclasses import dataclass, field

from nbcache.engine.executors.link import Link
from nbcache.engine.executors.protocol import ShownCallback, Started
from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec
from nbcache.engine.work.shown import Shown
from nbcache.model.digest import Digest

DEPTH = 16  # attempts of one worker
_TOKEN = struct.Struct("<Q")


@dataclass(slots=True, eq=False)
class Running:
    """An attempt between `submit` and its report."""

    spec: AttemptSpec
    process: ProcessSpec  # also where its run, which broke off, has let go of it meanwhile
    future: asyncio.Future[AttemptReport]
    started: Started | None
    show: ShownCallback | None
    shown: Shown = field(default_factory=Shown)
    begun: int = 0
    reason: str | None = None  # why it is being killed
    aborted: bool = False
    timer: asyncio.TimerHandle | None = None
    token: int = 0
    peak: int = 0  # bytes that its process tree was seen to hold, where memory is limited

    @property
    def is_limited(self) -> bool:
        """Whether its worker may have to be killed for it: it runs in one that has nothing else."""
        return self.spec.time is not None or self.spec.memory is not None


class WorkerHandle:
    """The kernel's end of a worker process."""

    def __init__(self, number: int, link: socket.socket) -> None:
        self.number, self.link = number, Link(link)
        self.pid: int | None = None
        self.known: set[str] = set()  # keys of processes
        self._modules: dict[str, Digest] = {}  # what it can serve in no other form
        self.gpus: tuple[str, ...] | None = None  # that its attempts see; None: it has had none
        self.assigned: deque[Running] = deque()  # in the order in which they run
        self.leaving = False  # takes no more attempts
        self.doomed = False  # is being killed
        self._taken, self._given = os.pipe()
        os.set_blocking(self._taken, False)
        self._last = 0

    @property
    def running(self) -> Running | None:
        """The first attempt that has not been reported."""
        return self.assigned[0] if self.assigned else None

    @property
    def token_end(self) -> int:
        """The descriptor from which the worker takes tokens."""
        return self._taken

    def learn(self, process: ProcessSpec) -> None:
        """Note that it has been sent a process."""
        self.known.add(process.key)
        self._modules.update(_module_digests(process))

    def serves(self, process: ProcessSpec, gpus: tuple[str, ...]) -> bool:
        """Say whether it has no local module in another text than this process wants, and
        can show it these GPUs: a library looks once which there are."""
        if self.leaving or self.gpus not in (None, gpus):
            return False
        if process.key in self.known or not self._modules:
            return True
        wanted = _module_digests(process)
        return all(wanted.get(name, digest) == digest for name, digest in self._modules.items())

    def has_room(self, since: float) -> bool:
        """Whether another attempt may wait here: the running one began after `since` (µs)."""
        return (
            0 < len(self.assigned) < DEPTH
            and not self.leaving
            and self.assigned[0].begun > since
            and not self.assigned[0].is_limited
        )

    def add(self, running: Running) -> int:
        """Give it an attempt; returns the token that the message has to carry."""
        self._last += 1
        running.token = self._last
        self.assigned.append(running)
        os.write(self._given, _TOKEN.pack(running.token))
        return running.token

    def take_back(self) -> list[Running]:
        """Take back the attempts that it has not begun, in their order; it will never run them."""
        try:
            tokens = {token for (token,) in _TOKEN.iter_unpack(os.read(self._taken, 1 << 12))}
        except BlockingIOError:
            return []
        free = [each for each in self.assigned if each.token in tokens]
        self.assigned = deque(each for each in self.assigned if each.token not in tokens)
        return free

    def close(self) -> None:
        """Close the socket, which ends an idle worker, and the pipe."""
        self.link.close()
        for descriptor in (self._taken, self._given):
            if descriptor >= 0:
                os.close(descriptor)
        self._taken = self._given = -1


def _module_digests(process: ProcessSpec) -> dict[str, Digest]:
    """Return what a worker that has imported it cannot serve in another form: local modules, and
    packages, which may be upgraded while a kernel lives: those that the code imports, and whatever
    the classes of inputs come from."""
    local = {name: source.digest for name, source in process.modules.items()}
    packages = {f"package {name}": digest for name, digest in process.packages.items()}
    return local | packages | ({"installed": process.installed} if process.installed else {})


class TokenTaker:
    """The worker's end of the pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held: int | None = None

    def may_begin(self, token: int) -> bool:
        """Take the token of an attempt; False: the kernel took the attempt back."""
        if self._held is None:
            try:
                (self._held,) = _TOKEN.unpack(os.read(self._descriptor, _TOKEN.size))
            except (BlockingIOError, struct.error):  # taken back, or the kernel is gone
                return False
        if self._held != token:
            return False  # the token of one that comes later
        self._held = None
        return True

    def close(self) -> None:
        """Let go of the pipe: in a child that a body forked."""
        os.close(self._descriptor)
