"""What a notebook is now against what a run was begun with: told before the run is resumed.

Compares what the run recorded of its processes with what would be recorded now, with the same
components that decide about hits; reads the log, and texts of code that lie in blobs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from nbcache.engine.record.compare import ENVIRONMENT
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.kept_components import with_texts
from nbcache.engine.record.pairing import renamed
from nbcache.model.row import ProcessRecord
from nbcache.plan.identity import explain
from nbcache.store.cache import Cache


def drift(
    cache: Cache,
    run: RunSummary,
    now: Sequence[ProcessRecord],
    wiring: Mapping[str, str],
    parameters: Mapping[str, str],
    notebook: str | None,
) -> list[str]:
    """Return a line for each thing that differs from the beginning of the run; none: nothing."""
    before = run.recorded[min(run.recorded)]
    olds = {record.name: record for record in before}
    news = {record.name: record for record in now}
    was = {name: name for name in news if name in olds} | renamed(olds, news)
    lines = list(_notebook(run.notebook, notebook))
    lines += _parameters(run.parameters, parameters)
    rewired = {
        name for name in wiring if run.wiring.get(was.get(name, name), "") not in ("", wiring[name])
    }
    lines += [f"channel {name} was edited" for name in wiring if name in rewired - news.keys()]
    environment: dict[object, str] = {}
    for name, record in news.items():
        if name not in was:
            lines.append(f"{name} is new")
            continue
        old = olds[was[name]]
        if was[name] != name:
            lines.append(f"{name} was called {was[name]}")
        lines += _wiring(name, old, record, was, name in rewired)
        own: list[str] = []
        for each in explain.differences(old.components, record.components):
            text = explain.phrase(with_texts(cache, each), name)
            if each.component.kind in ENVIRONMENT:
                environment[each.component.key] = text
            else:
                own.append(text)
        if own:
            lines.append(f"{name}: {', '.join(own)}")
    lines += [f"{name} is gone" for name in olds if name not in was.values()]
    return lines + list(environment.values())


def _notebook(before: str | None, now: str | None) -> Iterator[str]:
    if before and now and PurePath(before).name != PurePath(now).name:
        yield f"notebook {PurePath(before).name} → {PurePath(now).name}"


def _parameters(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name, text in now.items():
        if before.get(name) != text:
            yield f"parameter {name}: {before.get(name, 'as in the notebook')} → {text}"


def _wiring(
    name: str, old: ProcessRecord, new: ProcessRecord, was: Mapping[str, str], is_rewired: bool
) -> Iterator[str]:
    above = [was.get(each, each) for each in new.upstream]
    if above != list(old.upstream):
        yield f"{name} takes from {_listed(new.upstream)}, before from {_listed(old.upstream)}"
    elif set(old.inputs) != set(new.inputs):
        yield f"{name} has the inputs {_listed(new.inputs)}, before {_listed(old.inputs)}"
    elif is_rewired:
        yield f"{name} takes from another expression than before"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no process"
