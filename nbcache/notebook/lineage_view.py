"""The picture of a lineage: a tree as text and HTML, or a Mermaid graph.

Pure: a `Lineage` in, text out. What occurs twice is unfolded once; of many alike a few are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape

from nbcache.engine.record.lineage import Lineage, Link, Product, Source, TaskKey, TaskNode
from nbcache.model.ids import Position, parse_position
from nbcache.notebook import render
from nbcache.notebook.mermaid import quoted
from nbcache.notebook.render import Rendered

_ALIKE = 12  # branches of one input that are drawn one by one
_SHOWN = 3  # of those that are more
_APART = 8  # tasks of a process that a graph shows one by one


@dataclass(slots=True)
class Branch:
    """A line of a tree and what hangs below it."""

    text: str
    below: list[Branch] = field(default_factory=list)


def render_lineage(lineage: Lineage) -> Rendered:
    """Return the tree: what was meant, what it was made from, what was made of it."""
    tree = _Tree(lineage)
    parts: list[Rendered] = []
    for maker in dict.fromkeys(root.maker for root in lineage.roots):
        roots = [root for root in lineage.roots if root.maker == maker]
        parts.append(_title(", ".join(map(_product, roots))))
        parts.append(render.line(f"made by {_task(lineage.tasks[maker])}"))
        if lineage.equal:
            more = len(lineage.equal) - _SHOWN
            listed = ", ".join(lineage.equal[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
            parts.append(render.line(f"the same was made by {listed}"))
        parts += _drawn("from", tree.back(maker))
        parts += _drawn("taken by", tree.forward([(maker, root.digest) for root in roots]))
    if lineage.takers:
        parts.append(_title(lineage.title))
        places = dict.fromkeys(each.place for each in lineage.takers if each.place)
        parts += [render.line(f"lay at {place}") for place in places]
        parts += _drawn("taken by", tree.taken(lineage.takers))
    if not parts:
        parts = [render.line(f"{lineage.title} made no output that is kept")]
    return render.stack(parts)


def _title(text: str) -> Rendered:
    return Rendered(text, f"<b>{escape(text)}</b>")


def _task(task: TaskNode) -> str:
    parts = [task.label, f"run {task.run_name}"]
    if task.start is not None:
        parts.append(render.when(task.start.replace(tzinfo=UTC), datetime.now().astimezone()))
    if task.realtime is not None:
        parts.append(render.duration(task.realtime))
    if task.trusted:
        parts.append("trusted after an edit")
    parts.append(f"why {task.hash.rpartition(':')[2][:8]}")
    return " · ".join(parts)


def _product(product: Product | Link) -> str:
    if product.file is None:
        return product.output
    return f"{product.file} ({render.size(product.size)})"


def _source(source: Source) -> str:
    if source.scalar is not None:
        return f"{source.input} = {source.scalar}"
    place = f"  {source.place}" if source.place else ""
    return f"{source.input}: {source.summary}{place}"


class _Tree:
    """Makes branches; each task is unfolded where it is met first."""

    def __init__(self, lineage: Lineage) -> None:
        self._tasks = lineage.tasks
        self._into: dict[TaskKey, list[Link]] = {}
        self._out_of: dict[TaskKey, list[Link]] = {}
        self._sources: dict[TaskKey, list[Source]] = {}
        for link in sorted(lineage.links, key=self._in_order):
            self._into.setdefault(link.taker, []).append(link)
            self._out_of.setdefault(link.maker, []).append(link)
        for source in lineage.sources:
            self._sources.setdefault(source.taker, []).append(source)
        self._unfolded: set[tuple[TaskKey, bool]] = set()

    def _in_order(self, link: Link) -> tuple[Position, Position]:
        """Tasks by their place in the channel: 2 comes before 10."""
        maker, taker = self._tasks[link.maker], self._tasks[link.taker]
        return parse_position(maker.position), parse_position(taker.position)

    def back(self, task: TaskKey) -> list[Branch]:
        """What a task took, and what that was made from."""
        by_input: dict[str, list[Link | Source]] = {}
        for each in (*self._sources.get(task, ()), *self._into.get(task, ())):
            by_input.setdefault(each.input, []).append(each)
        return [
            branch
            for name, taken in sorted(by_input.items())
            for branch in self._some(taken, f"{name}: ", self._one_back)
        ]

    def _one_back(self, each: Link | Source) -> Branch:
        if isinstance(each, Source):
            return Branch(_source(each))
        maker = self._tasks[each.maker]
        run = "" if each.maker[0] == each.taker[0] else f" of run {maker.run_name}"
        text = f"{each.input}: {_product(each)} ← {maker.label}{run}"
        return self._unfold(text, each.maker, back=True)

    def forward(self, contents: Sequence[tuple[TaskKey, str]]) -> list[Branch]:
        """Who took some results, and who took what was made of them."""
        taken = [
            link
            for maker, digest in contents
            for link in self._out_of.get(maker, ())
            if link.digest == digest
        ]
        return self._some(taken, "", self._one_forward)

    def _one_forward(self, each: Link | Source) -> Branch:
        taker = self._tasks[each.taker]
        text = f"{taker.label} as {each.input}"
        if isinstance(each, Link) and each.maker[0] != each.taker[0]:
            text += f" in run {taker.run_name}"
        return self._unfold(text, each.taker, back=False)

    def taken(self, takers: Sequence[Source]) -> list[Branch]:
        """Who took a file that no task made."""
        return self._some(takers, "", self._one_forward)

    def _unfold(self, text: str, task: TaskKey, *, back: bool) -> Branch:
        below = bool(self._into.get(task) or self._sources.get(task)) if back else False
        below = below or (not back and bool(self._out_of.get(task)))
        if (task, back) in self._unfolded:
            return Branch(text + (" (see above)" if below else ""))
        self._unfolded.add((task, back))
        if back:
            return Branch(text, self.back(task))
        links = self._out_of.get(task, [])
        return Branch(text, self._some(links, "", self._one_forward))

    def _some(
        self, each: Sequence[Link | Source], name: str, make: Callable[[Link | Source], Branch]
    ) -> list[Branch]:
        """Branches for all; of many the first few, and how many there are."""
        if len(each) <= _ALIKE:
            return [make(one) for one in each]
        branches = [make(one) for one in each[:_SHOWN]]
        return [*branches, Branch(f"{name}… and {len(each) - _SHOWN:,} more")]


def _drawn(head: str, branches: Sequence[Branch]) -> list[Rendered]:
    if not branches:
        return []
    text = "\n".join([head, *_lines(branches)])
    return [Rendered(text, f"<div>{escape(head)}</div>{_list(branches)}")]


def _lines(branches: Sequence[Branch], before: str = "") -> Iterable[str]:
    for place, branch in enumerate(branches):
        is_last = place == len(branches) - 1
        yield f"{before}{'└─' if is_last else '├─'} {branch.text}"
        yield from _lines(branch.below, before + ("   " if is_last else "│  "))


def _list(branches: Sequence[Branch]) -> str:
    def line(each: Branch) -> str:
        text = escape(each.text)
        if not each.below:
            return text
        return f"<details open><summary>{text}</summary>{_list(each.below)}</details>"

    inner = "".join(f"<li>{line(each)}</li>" for each in branches)
    return f'<ul style="margin:0;padding-left:1.4em;list-style:none">{inner}</ul>'


def mermaid(lineage: Lineage) -> str:
    """Return the graph in Mermaid's language; many tasks of a process are one node."""
    counts = Counter(task.process for task in lineage.tasks.values())
    names: dict[str, str] = {}
    nodes: list[str] = []

    def node(key: str, text: str, shape: str = '["{}"]') -> str:
        if key not in names:
            names[key] = f"n{len(names)}"
            nodes.append(f"  {names[key]}{shape.format(quoted(text))}")
        return names[key]

    def task_node(key: TaskKey) -> str:
        task = lineage.tasks[key]
        if counts[task.process] > _APART:
            return node(task.process, f"{task.process} × {counts[task.process]:,}")
        return node("\0".join(key), task.label)

    edges: dict[str, None] = {}
    for key in lineage.tasks:
        task_node(key)
    for link in lineage.links:
        many = counts[lineage.tasks[link.maker].process] > _APART
        text = link.output if many or link.file is None else link.file
        edges[f'  {task_node(link.maker)} -->|"{quoted(text)}"| {task_node(link.taker)}'] = None
    for source in (*lineage.sources, *lineage.takers):
        many = counts[lineage.tasks[source.taker].process] > _APART
        if many:
            file = node(f"in {source.input}", source.input, '(["{}"])')
        elif source.place is not None:
            file = node(f"at {source.place}", source.place.rpartition("/")[2], '(["{}"])')
        else:
            continue  # a plain value says little in a graph
        edges[f"  {file} --> {task_node(source.taker)}"] = None
    for root in lineage.roots:
        out = node(f"out {root.maker} {root.output}", _product(root), '(["{}"])')
        edges[f"  {task_node(root.maker)} ==> {out}"] = None
    return "\n".join(["flowchart LR", *nodes, *edges])
