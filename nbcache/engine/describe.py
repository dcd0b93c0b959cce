"""Say what a process or a channel is, for its card: signature, wiring, captures, plan.

Describing never runs a body, and never fails: what cannot be said now becomes a note.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from nbcache.engine.declared.operating import call_operator
from nbcache.engine.declared.process import NamedChannel, Process
from nbcache.engine.host import Host
from nbcache.engine.identity.captured import Captured
from nbcache.engine.identity.identify import whole_item
from nbcache.engine.identity.reads import named_files
from nbcache.engine.running.decide import TAKEN_OUT
from nbcache.engine.running.dry import DryRun, dry_run
from nbcache.engine.running.prepare import Prepared, load
from nbcache.engine.running.reasons import Reasons
from nbcache.errors import DeclarationError, NbcacheError, UnknownNameError, WiringError, command
from nbcache.model.channel import CompiledNode, Graph
from nbcache.model.command import Apply, Command, Load
from nbcache.model.event import Applied, SourceLoaded
from nbcache.model.process import Input, Output, ProcessDecl
from nbcache.model.task import Outcome
from nbcache.model.value import Gathered
from nbcache.model.view import CaptureView, CardView, ChannelView, PlacePlan
from nbcache.plan.dataflow.scheduler import Scheduler
from nbcache.plan.identity.canonical import summarise
from nbcache.plan.language.option_lines import low_options
from nbcache.store.filestate import TooLong

FIRST_ITEMS = 3
COUNT_S = 0.2  # that counting for a card may take, since the cell that declares a process waits
SHARE = 0.2  # of the time that passes, for the looks of cards at what is above their processes


class Allowance:
    """The time that cards of cells may take that are executed one after another.

    Each looks at all that is above its process, so that a notebook of 300 steps in a row would
    spend a minute on cards that nobody reads yet. Who works cell by cell does not notice.
    """

    MOST_S = 1.0

    def __init__(self) -> None:
        self._left, self._at = self.MOST_S, time.monotonic()

    def is_left(self) -> bool:
        """Whether there is any of it now."""
        now = time.monotonic()
        self._left = min(self.MOST_S, self._left + SHARE * (now - self._at))
        self._at = now
        return self._left > 0

    def spend(self, seconds: float) -> None:
        """Take time of a processor out of it, perhaps more than is left."""
        self._left -= seconds


def card_of(process: Process, session: Host, allowance: Allowance | None = None) -> CardView:
    """Return the card of a process; its plan is None where counting takes longer, or where an
    `allowance` for it has been used up."""
    decl = process.decl
    notes = [*process.notes, *_parts(decl), *low_options(decl.body, decl.body_line)]
    inputs: Sequence[Input] = decl.inputs or ()
    captures: tuple[CaptureView, ...] = ()
    plan: PlacePlan | None = None
    hindrances: list[str] = []
    started, spent = time.monotonic(), time.thread_time()
    is_alone = allowance is not None and not allowance.is_left()
    try:
        with session.cache.files.within(COUNT_S):
            prepared = None if is_alone else session.prepare([process.name])
            place = (
                session.prepare_place(process.name)
                if prepared is None
                else prepared.places[prepared.graph.places[process.name]]
            )
            inputs = place.decl.inputs or ()
            captures = _captures(place.captured)
            notes += place.captured.notes
            if missing := ", ".join(place.captured.missing):
                hindrances.append(
                    f"nothing is called {missing} yet: the body would stop with a NameError"
                )
            if prepared is not None:
                left = COUNT_S - (time.monotonic() - started)
                found = dry_run(prepared, within_s=max(left, 0.02))
                if found.channel_error:
                    hindrances.append(found.channel_error)
                else:
                    plans = place_plans(prepared, found, session.reasons())
                    plan = next(each for each in plans if each.name == process.name)
                    known = (
                        _known_to_all(process.name, session) if plan.reason == TAKEN_OUT else None
                    )
                    if known is not None:
                        plan = known
                        again = command(f"run {process.name}")
                        notes.append(f"not kept: {again} makes these results again")
    except TooLong:
        pass
    except UnknownNameError as error:
        hindrances.append(str(error))
    except DeclarationError:
        raise
    except NbcacheError as error:
        hindrances.append(str(error))
    finally:
        if allowance is not None and not is_alone:
            allowance.spend(time.thread_time() - spent)
    reads = named_files([decl.body], session.folder) if decl.language == "python" else {}
    return CardView(
        name=process.name,
        signature=signature(decl, inputs),
        wiring=_wiring(process, session),
        captures=captures,
        reads=tuple(sorted(reads)),
        plan=plan,
        notes=tuple(notes),
        hindrances=tuple(hindrances),
    )


def _known_to_all(name: str, session: Host) -> PlacePlan | None:
    """Return the plan of a process in a run of all, which may know of results that are not there
    and do without them; None: it would make them, or that takes long to say."""
    with contextlib.suppress(NbcacheError, TooLong):
        prepared = session.prepare()
        found = dry_run(prepared, within_s=COUNT_S)
        index = prepared.graph.places.get(name)
        if index is not None and not found.channel_error:
            plan = _place_plan(name, index, prepared, found, session.reasons())
            return None if plan.to_run or plan.error else plan
    return None


def _captures(captured: Captured) -> tuple[CaptureView, ...]:
    """Name what the body reads, then the data that its helpers read."""
    behind = {
        each.name: each.summary
        for each in captured.components
        if each.kind == "captured" and each.name not in captured.names
    }
    return tuple(
        CaptureView(name=name, summary=summary)
        for names in (captured.names, behind)
        for name, summary in sorted(names.items())
    )


def _parts(decl: ProcessDecl) -> Iterator[str]:
    """Say that a process has several scripts, and a stub."""
    if decl.scripts:
        yield f"{len(decl.scripts)} scripts: {', '.join(map(str, decl.scripts))}"
    if decl.stub is not None:
        yield f"has a stub: {command('run --stub')}"


def signature(decl: ProcessDecl, inputs: Sequence[Input]) -> str:
    """Return "fit(depth, trees, rep) → score"."""
    ins = ", ".join(_port(each) for each in inputs)
    outs = ", ".join(_port(each) for each in decl.outputs or ())
    return f"{decl.name}({ins})" + (f" → {outs}" if outs else "")


def _port(port: Input | Output) -> str:
    text = port.name if port.type is None else f"{port.name}: {port.type}"
    if isinstance(port, Output):
        return text
    text = text if port.default is None else f"{text} = {port.default}"
    return f"*{text}" if port.rest else text


def _wiring(process: Process, session: Host) -> str:
    if process.decl.sources is not None:
        return "from " + ", ".join(text.strip() for text in process.decl.sources)
    pipeline = session.names.pipeline()
    try:
        spec = pipeline.process(process, None)
    except WiringError:
        return ""
    return "from " + ", ".join(spec.source_names) if spec.source_names else ""


def place_plans(prepared: Prepared, found: DryRun, reasons: Reasons) -> tuple[PlacePlan, ...]:
    """Count what a dry run found, per process in the order of the graph."""
    seen: set[object] = set()
    return tuple(
        _place_plan(name, index, prepared, found, reasons, seen)
        for name, index in sorted(prepared.graph.places.items(), key=lambda each: each[1])
    )


def _place_plan(
    name: str,
    index: int,
    prepared: Prepared,
    found: DryRun,
    reasons: Reasons,
    above: set[object] | None = None,
) -> PlacePlan:
    """`above`: hashes that run at other places already, and blobs that these make again, to which
    those of this one are added."""
    decided = {task: each for task, each in found.decisions.items() if task[0] == index}
    failed = {task for task in found.errors if task[0] == index}
    skipped = {task for task in decided if found.outcomes.get(task) is Outcome.SKIPPED}
    cached = {task for task, each in decided.items() if each.outputs is not None} - skipped
    over = cached | skipped | failed
    waiting = [each for task, each in decided.items() if task not in over]
    above = set() if above is None else above
    to_run = 0
    for each in waiting:
        makes = {each.hash or each.task}
        if not makes <= above and not (each.gone and each.gone <= above):
            to_run += 1
            above |= makes | each.gone
    twins = len(waiting) - to_run
    seen = len(decided) + len(failed - decided.keys())
    unknown = found.unknown.get(name, 0)
    expected = found.expected.get(name)
    broken = index in found.broken
    error = found.channel_error if broken else ""
    error = error or next((found.errors[task] for task in sorted(failed)), "")
    reason = error or (reasons.of(prepared.places[index], waiting) if to_run else "")
    lost = next((each.reason for each in waiting if each.reason), "")
    known = seen + unknown - len(skipped)
    if found.channel_error:  # which ends a run, so not all tasks were looked at
        known = max(known, expected or 0)
    return PlacePlan(
        name=name,
        tasks=None if expected is None or broken else known,
        cached=len(cached),
        to_run=to_run,
        trusted=sum(decided[task].is_trusted for task in cached),
        equal=twins,
        unknown=unknown,
        failing=len(failed),
        reason=lost or reason,
        error=error,
    )


def channel_view_of(channel: NamedChannel, session: Host) -> ChannelView:
    """Return what a channel gives, without running a process for it.

    Raises:
        NbcacheError: its expression does not evaluate, or a file or table is not there.
    """
    pipeline = session.names.pipeline()
    graph = pipeline.compile([channel.name])
    node = graph.nodes[graph.channels[channel.name]]
    if graph.places:
        names = ", ".join(graph.places)
        return ChannelView(
            name=channel.name,
            items=None,
            fields=node.fields,
            is_value=node.is_value,
            first=(),
            note=f"its items come from {names}",
        )
    sources = {each.index: load(each) for each in graph.nodes if each.op == "source"}
    is_source = node.op == "source"
    items = sources[node.index] if is_source else channel_items(graph, node.index, sources)
    return ChannelView(
        name=channel.name,
        items=len(items),
        fields=node.fields,
        is_value=node.is_value,
        first=tuple(_item_text(item, node) for item in items[:FIRST_ITEMS]),
        note=_of_dicts(items, node),
    )


def _of_dicts(items: Sequence[tuple[object, ...]], node: CompiledNode) -> str:
    """Say how keys of dicts become fields, where the only field of the items is a dict."""
    if not items or node.is_value or node.fields not in (None, (None,)):
        return ""
    if not isinstance(items[0][0], dict):
        return ""
    return "each item is one dict; from_table(...) makes fields of the keys of dicts"


def channel_items(
    graph: Graph, index: int, sources: Mapping[int, Sequence[tuple[object, ...]]]
) -> Sequence[tuple[object, ...]]:
    """Return the items of a channel above which there are no processes."""
    scheduler = Scheduler(graph, cpus=1, memory=None)
    commands: deque[Command] = deque(scheduler.start())
    while commands:
        asked = commands.popleft()
        if isinstance(asked, Load):
            commands.extend(scheduler.handle(SourceLoaded(asked.node, sources[asked.node])))
        elif isinstance(asked, Apply):
            node = graph.nodes[asked.node]
            silent = node.op in ("view", "subscribe") or node.function is None
            result = None if silent else call_operator(node, asked.args, lambda held: held)
            commands.extend(scheduler.handle(Applied(asked.call, result)))
    for _, error in scheduler.channel_errors:
        raise error
    return [item for _, item in scheduler.elements(index) if isinstance(item, tuple)]


def _item_text(item: tuple[object, ...], node: CompiledNode) -> str:
    fields = node.fields
    if fields is not None and any(fields):
        return " ".join(
            f"{name}={_value_text(value)}" if name else _value_text(value)
            for name, value in zip(fields, item, strict=True)
        )
    value = whole_item(item, fields)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_value_text, value)) + ")"
    return _value_text(value)


def _value_text(value: object) -> str:
    name = getattr(value, "name", None)
    if isinstance(name, str) and hasattr(value, "__fspath__"):
        return name
    return summarise(list(value) if isinstance(value, Gathered) else value)
