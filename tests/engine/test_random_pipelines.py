"""A plan equals the run that follows: random pipelines, random edits and damages between the runs.

After every step the plan, the bodies that really ran, the counts of the run, the reasons, `why` and
the values (computed once more without nbcache) have to agree with one another.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nbcache.engine.record.explanations import why
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook

STEPS = 12


@dataclass(frozen=True)
class Step:
    """A process: what it takes, and what its body is made of."""

    name: str
    takes: tuple[str, ...]
    kind: str  # map, sum, with (an item and a value), read (a file)
    factor: int = 1
    helper: int = 0
    is_large: bool = False  # its result is a blob
    remark: str = ""
    cpus: int = 1


@dataclass
class World:
    """All that a user can change."""

    items: list[int]
    texts: dict[str, int]
    helpers: list[int]
    table: dict[str, int]
    steps: list[Step] = field(default_factory=list)


def make_world(chance: random.Random) -> World:
    world = World([1, 2, 3], {"a": 5, "b": 6}, [1, 2], {"k": 3})
    queues = ["src"]
    values: list[str] = []
    world.steps.append(Step("p0", ("files",), "read", is_large=chance.random() < 0.5))
    for number in range(1, chance.randint(4, 6)):
        kind = chance.choice(["map", "map", "sum", *(["with"] if values else [])])
        takes: tuple[str, ...] = (chance.choice([*queues, "p0"]),)
        if kind == "with":
            takes += (chance.choice(values),)
        name = f"p{number}"
        world.steps.append(
            Step(name, takes, kind, chance.randint(1, 2), chance.randint(0, 1),
                 chance.random() < 0.4)
        )  # fmt: skip
        (values if kind == "sum" else queues).append(name)
    return world


def expected(world: World) -> dict[str, list[int]]:
    """Compute all results without nbcache."""
    found = {"src": world.items, "files": [world.texts[each] for each in sorted(world.texts)]}
    for step in world.steps:
        items, by = found[step.takes[0]], world.helpers[step.helper]
        if step.kind == "sum":
            items = [sum(items)]
        elif step.kind == "with":
            items = [each + found[step.takes[1]][0] for each in items]
        found[step.name] = [each * step.factor + by * world.table["k"] for each in items]
    return {step.name: found[step.name] for step in world.steps}


def cells(notebook: Notebook, world: World) -> list[str]:
    """Return the notebook as text."""
    written = [
        f"table = {world.table!r}",
        *(
            f"def h{number}():\n    return {by} * table['k']"
            for number, by in enumerate(world.helpers)
        ),
        f"%channel src = from_iterable({world.items!r})",
        '%channel files = from_path("data/*.txt")',
    ]
    for step in world.steps:
        first = step.takes[0] if step.kind != "sum" else f"{step.takes[0]}.collect()"
        header, value = f"(v) -> out from {first}", "plain(v)"
        if step.kind == "read":
            header, value = f"(v: path) -> out from {first}", "int(v.read_text())"
        elif step.kind == "sum":
            value = "sum(map(plain, v))"
        elif step.kind == "with":
            header, value = f"(v, w) -> out from {first}, {step.takes[1]}", "plain(v) + plain(w)"
        lines = [
            notebook.mark(repr(step.name)),
            step.remark and f"# {step.remark}",
            f"out = ({value}) * {step.factor} + h{step.helper}()",
            "out = [out, *[0] * 3000]" if step.is_large else "",
        ]
        body = "\n".join(filter(None, lines))
        written.append(f"%%process {step.name}{header} --cpus {step.cpus}\n{body}")
    return ["def plain(v):\n    return v[0] if isinstance(v, list) else v", *written]


def change(world: World, chance: random.Random, root: Path) -> str:
    """Change one thing; return what it was."""
    what = chance.choice(
        ["items", "text", "same text", "helper", "table", "factor", "remark", "cpus", "large",
         "delete", "cut", "nothing"]
    )  # fmt: skip
    index = chance.randrange(len(world.steps))
    step = world.steps[index]
    if what == "items":
        world.items = chance.sample(range(1, 6), chance.randint(1, 4))
    elif what == "text":
        world.texts[chance.choice("abc")] = chance.randint(5, 7)
    elif what == "helper":
        world.helpers[chance.randint(0, 1)] = chance.randint(1, 3)
    elif what == "table":
        world.table["k"] = chance.randint(3, 4)
    elif what == "factor":
        world.steps[index] = replace(step, factor=chance.randint(1, 3))
    elif what == "remark":
        world.steps[index] = replace(step, remark=str(chance.random()))
    elif what == "cpus":
        world.steps[index] = replace(step, cpus=3 - step.cpus)
    elif what == "large":
        world.steps[index] = replace(step, is_large=not step.is_large)
    elif what in ("delete", "cut"):
        blobs = sorted(each for each in (root / "blobs").rglob("*/*") if each.is_file())
        for blob in chance.sample(blobs, min(2, len(blobs))):
            blob.unlink() if what == "delete" else os.truncate(blob, 7)
    return what


def write_files(world: World, folder: Path) -> None:
    (folder / "data").mkdir(exist_ok=True)
    for name, number in world.texts.items():
        (folder / "data" / f"{name}.txt").write_text(str(number))


@pytest.mark.parametrize("seed", [3, 12, 14])
def test_plan_run_reasons_and_values_agree_after_every_change(
    notebook: Notebook, seed: int
) -> None:
    chance = random.Random(seed)
    world = make_world(chance)
    before: dict[str, Step] = {}
    for number in range(STEPS):
        what = change(world, chance, notebook.session.cache.root) if number else "the first run"
        write_files(world, notebook.folder)
        if before != {step.name: step for step in world.steps} or what not in ("text", "nothing"):
            notebook.cells(cells(notebook, world))
        before = {step.name: step for step in world.steps}

        plans = {plan.name: plan for plan in notebook.session.plan()}
        run = notebook.run()

        assert run.status is RunStatus.SUCCEEDED, (what, run.error, run.failures)
        ran, wanted = Counter(notebook.ran()), expected(world)
        for name, plan in plans.items():
            told = f"seed {seed}, step {number} ({what}), {name}"
            outcomes = [
                task.outcome.value for task in run.tasks.values() if task.label.startswith(name)
            ]
            assert [_plain(each) for each in run[name]] == wanted[name], told
            assert outcomes.count("completed") == ran[name], told
            # Of tasks that lack the very same bytes any may be the one that makes them anew.
            healed = what in ("delete", "cut") and "no longer in the cache" in plan.reason
            assert (0 if healed else plan.to_run) <= ran[name], told
            most = plan.to_run + plan.unknown + (plan.equal if healed else 0)
            assert ran[name] <= most, told
            assert plan.cached <= outcomes.count("cached"), told
            if plan.to_run and ran[name]:
                assert plan.reason, told
                assert run.reasons[name] == plan.reason, told
            assert healed or bool(run.reasons.get(name)) == bool(ran[name]), told
        check_why(notebook, run.name, ran)
        again = notebook.session.plan()
        assert sum(each.to_run + each.unknown for each in again) == 0, what


def _plain(value: object) -> object:
    return value[0] if isinstance(value, list) else value


def check_why(notebook: Notebook, run: str, ran: Counter[str]) -> None:
    """Ask for the first task of each process: what ran has a reason, and says that it ran."""
    said = {"completed": 0, "cached": 0}
    for name, plan in ((each.name, each) for each in notebook.session.plan()):
        position = [] if plan.tasks == 1 else ["0"]
        told = why(notebook.session.cache, [name, *position], run=run)
        said[told.outcome] += 1
        hits = (" was cached: ", " was equal to one that ran: ")
        assert any(
            each in told.head for each in ([" ran: "] if told.outcome == "completed" else hits)
        )
        assert ran[name] or told.outcome == "cached"
