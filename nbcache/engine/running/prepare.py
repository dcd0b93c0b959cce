"""Prepare a run or a plan: compile the pipeline, capture what bodies reach, load the sources.

Done on the caller's thread, since it reads the notebook's names: what comes out is a snapshot that
later edits do not touch. Runs, plans, cards and `try` all begin here.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from nbcache.engine.declared.pipeline import Pipeline
from nbcache.engine.declared.process import Process, check_filled, passed_outputs
from nbcache.engine.declared.scripts import recorded_script, scripts_of
from nbcache.engine.declared.stubs import stub_components, with_stubs
from nbcache.engine.identity.capture import capture
from nbcache.engine.identity.cell_settings import Surroundings
from nbcache.engine.identity.identify import Identifier
from nbcache.engine.identity.reads import named_files
from nbcache.engine.identity.remote import RemoteFiles
from nbcache.engine.identity.value_code import know_classes_of, value_leaf
from nbcache.engine.record.results import Decoder, Results, restored_text
from nbcache.engine.running.decide import Decider
from nbcache.engine.running.decision import Place
from nbcache.engine.running.evaluating import RESOURCES, evaluate_default
from nbcache.errors import BodyError, ChannelError, NbcacheError, UsageError
from nbcache.model.channel import CompiledNode, Graph, Item
from nbcache.model.event import Resources
from nbcache.model.fingerprint import Component
from nbcache.model.process import DefaultPick, Directives, Dynamic, FieldPick, Script
from nbcache.model.run_options import RunOptions
from nbcache.model.value import FilePath, RemoteFile
from nbcache.plan.dataflow.handed_on import handed_on
from nbcache.plan.identity.fingerprint import SharedPart, component
from nbcache.plan.language.directive_checks import staging_of
from nbcache.plan.language.header_text import meant
from nbcache.store.cache import Cache

AGAIN = "asked to run again"
PLAIN = RunOptions()


@dataclass(slots=True)
class Prepared:
    """A snapshot of the pipeline, ready to be run or planned."""

    graph: Graph
    places: Mapping[int, Place]
    sources: Mapping[int, Sequence[Item]]
    decider: Decider
    decoder: Decoder
    wiring: Mapping[str, str]  # channel or process -> a digest of what its wiring says


def prepare(
    pipeline: Pipeline,
    cache: Cache,
    folder: Path,
    *,
    only: Collection[str] | None = None,
    options: RunOptions = PLAIN,
    no_cache: bool = False,
) -> Prepared:
    """Take the snapshot.

    Raises:
        UsageError: `options` name no process of it.
        NbcacheError: the pipeline does not fit together, a source has no items to give, a captured
            value has no canonical form.
    """
    cache.log.refresh()
    graph = pipeline.compile(only)
    if options.stub:
        graph = with_stubs(graph, pipeline)
    around: dict[str, Surroundings] = {}
    places = {
        index: make_place(graph.nodes[index], pipeline, cache, folder, around)
        for index in graph.places.values()
    }
    fresh = _fresh(graph, options)
    for index in fresh:
        for place in places[index].each():
            place.asked = AGAIN
    sources = {node.index: load(node) for node in graph.nodes if node.op == "source"}
    decoder = Decoder(cache)
    remote = RemoteFiles(cache)
    remote.ask(_remote_files(sources))
    know_classes_of(pipeline.namespace, folder)
    leaf = value_leaf(pipeline.namespace, folder, is_kernel=True)
    identifier = Identifier(cache.files, folder, remote, leaf)
    passed = {
        index: frozenset(name for each in place.each() for name in each.passed)
        for index, place in places.items()
    }
    decider = Decider(
        cache,
        places,
        identifier,
        decoder,
        folder,
        fresh=fresh,
        no_cache=no_cache,
        handed_on=handed_on(graph, only or (), passed),
    )
    return Prepared(graph, places, sources, decider, decoder, pipeline.wiring(graph))


def prepare_place(pipeline: Pipeline, cache: Cache, folder: Path, name: str) -> Place:
    """Return one process with what it captures, without a look at those above it.

    Raises:
        NbcacheError: it does not fit in, or a captured value has no canonical form.
    """
    graph = pipeline.compile([name])
    return make_place(graph.nodes[graph.places[name]], pipeline, cache, folder, {})


def _remote_files(sources: Mapping[int, Sequence[Item]]) -> Iterator[RemoteFile]:
    values = list(itertools.chain.from_iterable(itertools.chain.from_iterable(sources.values())))
    if RemoteFile not in set(map(type, values)):  # mostly, and there may be very many items
        return iter(())
    return (each for each in values if isinstance(each, RemoteFile))


def _fresh(graph: Graph, options: RunOptions) -> frozenset[int]:
    """Return the places that have to run again whatever other runs have made."""
    if options.fresh:
        return frozenset(graph.places.values())
    for name in options.from_:
        if name not in graph.places:
            hint = meant(name, graph.places, f"it has {', '.join(graph.places)}")
            raise UsageError(f"--from {name}: the run has no such process; {hint}")
    below = {graph.places[name] for name in options.from_}
    for node in graph.nodes:
        if not below.isdisjoint(node.parents):
            below.add(node.index)
    return frozenset(below & set(graph.places.values()))


def make_place(
    node: CompiledNode,
    pipeline: Pipeline,
    cache: Cache,
    folder: Path,
    around: dict[str, Surroundings],
) -> Place:
    """Capture what a process reaches and put its shared components together.

    `around` is looked at once for all processes.
    """
    decl = node.decl
    assert decl is not None
    check_place(node, pipeline)
    scripts = scripts_of(decl)
    if not scripts:
        own, key = pipeline.process_of(decl), str(node.index)
        return _place(node, own, key, pipeline, cache, folder, around)
    places = [
        _place(
            dataclasses.replace(node, decl=each),
            pipeline.process_of(decl),
            f"{node.index}.{number}",
            pipeline,
            cache,
            folder,
            around,
        )
        for number, each in enumerate(scripts)
    ]
    return _place_of_scripts(node, decl.scripts, places)


def _place_of_scripts(
    node: CompiledNode, scripts: Sequence[Script], places: Sequence[Place]
) -> Place:
    """Return the place at which each task runs one of several scripts."""
    held = [set(each.shared.components) for each in places]
    common = set.intersection(*held)
    shared = [each for each in places[0].shared.components if each in common]
    told: list[Component] = []
    for script, place in zip(scripts, places, strict=True):
        place.own = tuple(each for each in place.shared.components if each not in common)
        said = recorded_script(script, place.own)
        place.recorded = (*shared, said)
        told.append(said)
    return dataclasses.replace(
        places[0],
        node=node,
        shared=SharedPart(shared),
        key=str(node.index),
        recorded=(*shared, *told),
        own=(),
        scripts=tuple(zip(scripts, places, strict=True)),
    )


def _place(
    node: CompiledNode,
    process: Process,
    key: str,
    pipeline: Pipeline,
    cache: Cache,
    folder: Path,
    around: dict[str, Surroundings],
) -> Place:
    decl = node.decl
    assert decl is not None
    inputs = {each.name for each in decl.inputs or ()}
    names = pipeline.scope_of(process)
    captured = capture(
        decl, process.facts, names, taken=inputs, notebook_dir=folder,
        digest_of_file=cache.files.digest, around=around,
    )  # fmt: skip
    files = (
        named_files([decl.body, *captured.helper_sources], folder)
        if decl.language == "python"
        else {}
    )
    literal = [
        component("file", text, cache.files.digest(path), f"{text}, named in the code")
        for text, path in sorted(files.items())
    ]
    passed = passed_outputs(decl, process.facts, inputs)
    defaults = {
        name: evaluate_default(
            f"process {decl.name!r}: input {name!r}", pick.text, names, folder, _is_path(node, name)
        )
        for name, pick in node.filling.items()
        if isinstance(pick, DefaultPick)
    }
    shared = SharedPart([*captured.components, *literal, *stub_components(decl)])
    return Place(
        node=node,
        captured=captured,
        shared=shared,
        key=key,
        recorded=shared.components,
        passed=passed,
        types={each.name: each.type for each in decl.inputs or ()},
        constant=_constant(decl.directives),
        defaults=defaults,
        staging=staging_of(decl),
    )


def detach(prepared: Prepared) -> None:
    """Copy what the notebook could change in place while a run goes on without it."""
    for place in prepared.places.values():
        place.captured = dataclasses.replace(
            place.captured,
            buffers=tuple(memoryview(bytes(each)) for each in place.captured.buffers),
        )
        place.defaults = {name: _copied(each) for name, each in place.defaults.items()}
    prepared.sources = {
        index: [tuple(map(_copied, item)) for item in items]
        for index, items in prepared.sources.items()
    }


def _copied(value: object) -> object:
    if type(value) in (int, float, str, bool, bytes, type(None)) or isinstance(value, FilePath):
        return value
    return copy.deepcopy(value)


def check_place(node: CompiledNode, pipeline: Pipeline) -> None:
    """Check what can be told only now that a process's inputs are known.

    Raises:
        DeclarationError: the body and the inputs do not fit.
    """
    decl = node.decl
    assert decl is not None
    process = pipeline.process_of(decl)
    _refuse_channels(process, pipeline, node)
    check_filled(decl, process.facts, pipeline.scope_of(process))


def load(node: CompiledNode) -> Sequence[Item]:
    """Return a source's items.

    Raises:
        ChannelError: whatever is wrong with the files or the table, with the channel's name.
    """
    assert node.load is not None
    name = node.name or node.label
    try:
        return node.load()
    except NbcacheError as error:
        if isinstance(error, ChannelError):
            raise ChannelError(of_channel(name, str(error))) from error
        raise
    except Exception as error:
        raise ChannelError(f"channel {name}: {type(error).__name__}: {error}") from error


def of_channel(name: str, said: str) -> str:
    """Return what is wrong with a channel, with its name unless that is said already."""
    told = re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w./-])", said)
    return said if told else f"channel {name}: {said}"


def _refuse_channels(process: Process, pipeline: Pipeline, node: CompiledNode) -> None:
    """A body cannot read a channel that is no input of it: it would be a handle, not items."""
    if process.facts is None:
        return
    for name in sorted(process.facts.free - node.filling.keys()):
        if isinstance(pipeline.namespace.get(name), Results):
            raise BodyError(f"process {process.name!r} reads {restored_text(name)}")
        if pipeline.is_channel(name) and pipeline.namespace.get(name) is not process:
            raise BodyError(
                f"process {process.name!r} reads {name}, which is a channel",
                hint=_way_in(name, process, node),
            )


def _way_in(name: str, process: Process, node: CompiledNode) -> str:
    """Say how a channel's items reach a body that reads the channel by its name."""
    sources = cast(Sequence[str], node.options["source_names"])
    if name not in sources:
        return f"Take it as an input: `%%process {process.name}({name}) ...` or `... from {name}`."
    filled = [
        each
        for each, pick in node.filling.items()
        if isinstance(pick, FieldPick) and sources[pick.source] == name
    ]
    these = "that" if len(filled) == 1 else "these"
    return f"Its items come in as {' and '.join(filled)}: read {these}."


def _is_path(node: CompiledNode, name: str) -> bool:
    assert node.decl is not None
    types = {each.name: each.type for each in node.decl.inputs or ()}
    declared = types.get(name)
    return declared is not None and declared.is_path


def _constant(directives: Directives) -> Resources | None:
    asked = {name: getattr(directives, name) for name in RESOURCES}
    if any(isinstance(each, Dynamic) for each in asked.values()):
        return None
    return Resources(**asked)
