"""From the options of `run`, `resume` and `relaunch` to the choices of a run."""

from __future__ import annotations

from nbcache.errors import UsageError
from nbcache.model.run_options import RunChoices
from nbcache.notebook.verbs import Parsed


def choices_of(parsed: Parsed) -> RunChoices:
    """Return what a command says about how a run goes; what it does not say is left out.

    Raises:
        UsageError: a number is none, or two options exclude each other.
    """
    choices: RunChoices = {}
    if "--fresh" in parsed:
        choices["fresh"] = True
    if "--stub" in parsed:
        choices["stub"] = True
    if "--from" in parsed:
        names = ",".join(parsed.flags["--from"]).split(",")
        choices["from_"] = tuple(filter(None, (name.strip() for name in names)))
    if "--levels" in parsed and "--dataflow" in parsed:
        raise UsageError("--levels and --dataflow exclude each other")
    if "--levels" in parsed or "--dataflow" in parsed:
        choices["levels"] = "--levels" in parsed
    if "--max-parallel" in parsed:
        choices["max_parallel"] = _limit(parsed, "--max-parallel")
    if "--max-errors" in parsed:
        choices["max_errors"] = _limit(parsed, "--max-errors")
    if "--executor" in parsed:
        choices["executor"] = parsed.text("--executor") or ""
    return choices


def _limit(parsed: Parsed, flag: str) -> int | None:
    text = parsed.text(flag) or ""
    if text == "none":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{flag} takes a number from 1 on, or none, not {text!r}")
    return int(text)
