"""One of many who run one pipeline at once: `python -m tests.engine.team_racer JOB`.

Says "ready". For each line with a number it runs the pipeline on the numbers from that one on, and
prints what became of it as JSON; at the end of the lines it sends what is not sent yet. The trace
file has a line for each body that began.
"""

from __future__ import annotations

import functools
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from nbcache.engine import joining, tier
from nbcache.engine.running import claiming
from nbcache.store.remote import leases
from nbcache.store.remote.beating import BeatingProcess
from nbcache.store.remote.opening import open_store
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S

BEAT_S, STALE_S, POLL_S = 0.5, 20.0, 0.1
"""Dead after 20 s: a machine that is busy with many racers starves a heartbeat for seconds."""
LOOKUP_S = 60.0


def cells(trace: str) -> tuple[str, ...]:
    """Return a pipeline of two layers; each body says that it began, and takes its time."""
    note = f"open({trace!r}, 'a').write"
    return (
        "%%process spell(n) -> text from numbers\n"
        f"import time\n{note}(f'spell{{n}}\\n')\n"
        "time.sleep(0.2)\ntext = ' '.join([str(n)] * 2_000)",
        "%%process length(text) -> size from spell\n"
        f"import time\n{note}(f'length{{text.split()[0]}}\\n')\n"
        "time.sleep(0.1)\nsize = len(text.split()) * int(text.split()[0])",
    )


def main() -> None:
    job: dict[str, Any] = json.loads(sys.argv[1])
    leases.BEAT_S, leases.STALE_S, claiming.POLL_S = BEAT_S, STALE_S, POLL_S
    # Nor is a server that answers late one that is not there: then all would run on without claims.
    patient: dict[str, Any] = {"lookup_s": LOOKUP_S}
    for each in (joining, tier):
        vars(each)["open_store"] = functools.partial(open_store, **patient)
    vars(claiming)["BeatingProcess"] = functools.partial(BeatingProcess, options=patient)
    folder = Path(job["folder"])
    folder.mkdir(exist_ok=True)
    notebook = Notebook(folder)
    said: list[str] = []
    notebook.session.teller = said.append
    notebook.session.share(job["url"], claim=job.get("claim", "always"))
    print("ready", flush=True)
    team = notebook.session.tier()
    assert team is not None
    for line in sys.stdin:
        first = int(line)
        notebook.cell(f"%channel numbers = from_iterable(range({first}, {first + job['tasks']}))")
        notebook.cells(cells(job["trace"]))
        run = notebook.session.start([])
        if not run.wait(PATIENCE_S):
            raise SystemExit(f"{job['name']} does not come to an end: {run.progress()}")
        team.finish(PATIENCE_S)
        told = {
            "outcomes": Counter(task.outcome.value for task in run.tasks.values()),
            "values": [int(each) for each in run["length"]] if not run.failures else [],
            "notes": [*run.notes, *said],
            "failures": [each.error for each in run.failures],
        }
        print(json.dumps(told), flush=True)
    team.push(None)  # the network is as it should be
    notebook.close()


if __name__ == "__main__":
    main()
