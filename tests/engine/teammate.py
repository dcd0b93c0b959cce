"""One person of a team, in a process that does what it is told.

`Mate` starts it and asks. The program is `python -m tests.engine.teammate JOB`: JOB is JSON with
`folder` of her notebook, `url` of the shared cache, `cells`, and, where they matter, `skew_s` (how
wrong her clock is), `beat_s`, `stale_s`, `lookup_s`. Each line of standard input is the name of
a method of `Teammate`, and answered by a line of JSON.
"""

from __future__ import annotations

import functools
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE_S

POLL_S = 0.1
LOOKUP_S = 60.0


class Mate:
    """A teammate's process, as the others see it."""

    def __init__(self, folder: Path, url: str, cells: Sequence[str], **more: float) -> None:
        job = {"folder": str(folder), "url": url, "cells": list(cells), **more}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.teammate", json.dumps(job)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready\n"

    def ask(self, word: str) -> Any:
        """Have her do something; return her answer."""
        self.tell(word)
        return self.hear()

    def tell(self, word: str) -> None:
        """Have her do something, whose answer is heard later."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        return json.loads(self._line())

    def stop(self) -> None:
        """Stop her process as Ctrl-Z does, until `go_on`."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End her as a power failure does."""
        self.process.kill()
        self.process.communicate()

    def leave(self) -> None:
        """Let her close her notebook."""
        self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def move_clock(offset_s: float) -> None:
    """Let the wall clock of this process and its forks be wrong."""
    real_ns = time.time_ns
    time.time_ns = lambda: real_ns() + int(offset_s * 1e9)
    time.time = lambda: time.time_ns() / 1e9


class Teammate:
    """A notebook, and what she is asked to do with it."""

    def __init__(self, job: dict[str, Any]) -> None:
        from nbcache.engine import joining, tier
        from nbcache.engine.running import claiming
        from nbcache.store.remote import leases
        from nbcache.store.remote.beating import BeatingProcess
        from nbcache.store.remote.opening import open_store
        from tests.engine.notebooks import Notebook

        leases.BEAT_S, leases.STALE_S = job.get("beat_s", 0.5), job.get("stale_s", 20.0)
        claiming.POLL_S = POLL_S
        patient: dict[str, Any] = {"lookup_s": job.get("lookup_s", LOOKUP_S)}
        for each in (joining, tier):
            vars(each)["open_store"] = functools.partial(open_store, **patient)
        vars(claiming)["BeatingProcess"] = functools.partial(BeatingProcess, options=patient)
        self.folder = Path(job["folder"])
        self.folder.mkdir(exist_ok=True)
        self.notebook = Notebook(self.folder)
        self.said: list[str] = []
        self.notebook.session.teller = self.said.append
        self.notebook.session.share(job["url"], claim="always")
        self.notebook.cells(job["cells"])
        self.processes = re.findall(r"^%%process (\w+)", "\n".join(job["cells"]), re.MULTILINE)
        self.began: Any = None

    def start(self) -> dict[str, Any]:
        """Begin a run."""
        self.began = self.notebook.session.start([])
        return {"run": self.began.id}

    def waits(self) -> dict[str, Any]:
        """Say for whom the run waits."""
        return {"waits": [each.who for each in self.began.progress().waits]}

    def end(self) -> dict[str, Any]:
        """Wait until the run has ended; say what became of it, and of whom was told what."""
        assert self.began.wait(PATIENCE_S), self.began.progress()
        return {
            "outcomes": Counter(task.outcome.value for task in self.began.tasks.values()),
            "values": {}
            if self.began.failures
            else {name: [repr(each)[:80] for each in self.began[name]] for name in self.processes},
            "notes": [*self.began.notes, *self.said],
            "failures": [each.error for each in self.began.failures],
        }

    def run(self) -> dict[str, Any]:
        """Run, and send what was made."""
        self.start()
        told = self.end()
        told["settled"] = self.settle()["settled"]
        told["notes"] = [*self.began.notes, *self.said]
        return told

    def settle(self) -> dict[str, Any]:
        """Wait until all is sent that can be."""
        team = self.notebook.session.tier()
        assert team is not None
        team.send_soon()
        return {"settled": team.finish(PATIENCE_S)}

    def push(self) -> dict[str, Any]:
        """Send all that is here."""
        team = self.notebook.session.tier()
        assert team is not None
        sent = team.push(None)
        return {"rows": sent.rows, "blobs": sent.blobs, "left": sent.left}

    def pull(self) -> dict[str, Any]:
        """Fetch all there is."""
        team = self.notebook.session.tier()
        assert team is not None
        got = team.pull(None)
        return {"results": got.results, "blobs": got.blobs, "gone": got.gone}


def main() -> None:
    job: dict[str, Any] = json.loads(sys.argv[1])
    if job.get("skew_s"):
        move_clock(job["skew_s"])
    teammate = Teammate(job)
    print("ready", flush=True)
    for line in sys.stdin:
        say: Callable[[], dict[str, Any]] = getattr(teammate, line.strip())
        print(json.dumps(say()), flush=True)
    teammate.notebook.close()


if __name__ == "__main__":
    main()
