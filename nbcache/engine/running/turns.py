"""Runs of one kernel take turns; one that waits for its turn can be cancelled meanwhile."""

from __future__ import annotations

import asyncio
import contextlib

from nbcache.engine.running.run import Run

WAITS = "another run of this kernel is going; this one starts when it has ended"
PATIENCE_S = 0.02


class Queued:
    """Steers a run that has not begun."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.asked = asyncio.Event()

    def cancel(self) -> None:
        """Give up the turn; from any thread."""
        self._loop.call_soon_threadsafe(self.asked.set)


async def take_turn(turn: asyncio.Lock, run: Run) -> bool:
    """Wait for a run's turn; False, without the turn, if the run is cancelled before it comes."""
    queued = Queued()
    run.steered_by(queued)
    taking = asyncio.ensure_future(turn.acquire())
    asked = asyncio.ensure_future(queued.asked.wait())
    done, _ = await asyncio.wait(
        (taking, asked), timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
    )
    if not done:
        run.notes.append(WAITS)
        await asyncio.wait((taking, asked), return_when=asyncio.FIRST_COMPLETED)
    if WAITS in run.notes:
        run.notes.remove(WAITS)
    if not asked.done():
        asked.cancel()
        return True
    if taking.done():
        turn.release()
    taking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await taking
    return False
