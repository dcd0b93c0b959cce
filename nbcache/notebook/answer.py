"""What a verb answers: one shape for all verbs, for the notebook and the shell alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from nbcache.notebook import render
from nbcache.notebook.render import Rendered


@dataclass(frozen=True, slots=True)
class Answer:
    """A picture, the same as data, whether all is well (verify, doctor); bytes in its place."""

    rendered: Rendered
    data: object
    good: bool = True
    raw: bytes | None = None


def answer(
    shown: str | Rendered | Iterable[Rendered],
    data: object,
    colour: str = "pending",
    *,
    good: bool = True,
) -> Answer:
    """Return an answer with nbcache's bar at its left: a line, a picture, or several in a stack."""
    if isinstance(shown, str):
        shown = render.line(shown)
    elif not isinstance(shown, Rendered):
        shown = render.stack(shown)
    return Answer(Rendered(shown.text, render.box(shown.html, colour)), data, good)


def moment(microseconds: int) -> str:
    """Return a time of the log as people say it now: "today 10:42"."""
    at = datetime.fromtimestamp(microseconds / 1e6, tz=UTC)
    return render.when(at, datetime.now().astimezone())
