"""Stub runs: the stub body of a process in place of its body, for all processes that have one.

A stub counts as code of its own kind, so that no real run takes what a stub made, even where the
two texts are equal. Where a process has none, its body runs, and its results are those of any run.
A stub run shows nothing to people: it publishes nothing and leaves `store` folders alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nbcache.engine.declared.pipeline import Pipeline
from nbcache.engine.declared.process import Process, check_filled, read_body
from nbcache.errors import DeclarationError
from nbcache.model.channel import CompiledNode, Graph
from nbcache.model.digest import identity_digest
from nbcache.model.fingerprint import Component
from nbcache.model.process import ProcessDecl
from nbcache.plan.identity.fingerprint import component


def stub_of(decl: ProcessDecl) -> ProcessDecl:
    """Return the declaration whose body is the stub; the declared outputs stay."""
    assert decl.stub is not None
    return replace(
        decl, body=decl.stub, body_line=decl.stub_line, stub=None, is_stub=True, scripts=()
    )


def check_stub(decl: ProcessDecl, namespace: Mapping[str, object]) -> None:
    """Check the stub of a complete declaration, where it has one, as its body is checked.

    Raises:
        DeclarationError: what is wrong with it, with its line.
    """
    if decl.stub is None:
        return
    stub = stub_of(decl)
    try:
        facts = read_body(stub)
        if decl.inputs is not None or decl.sources is None:
            check_filled(stub, facts, namespace)
    except DeclarationError as error:
        raise type(error)(
            f"the stub of {decl.name!r}: {error.message}",
            line=error.line,
            column=error.column,
            source=error.source,
            hint=error.hint,
        ) from None


def with_stubs(graph: Graph, pipeline: Pipeline) -> Graph:
    """Return the graph of a stub run: wired as the real one, with other bodies."""
    return replace(graph, nodes=tuple(_node(each, pipeline) for each in graph.nodes))


def _node(node: CompiledNode, pipeline: Pipeline) -> CompiledNode:
    decl = node.decl
    if decl is None:
        return node
    process = pipeline.process_of(decl)
    if decl.stub is not None:
        decl = stub_of(decl)
    decl = replace(decl, directives=replace(decl.directives, publish=(), store=None))
    if decl.is_stub:
        pipeline.note(decl, Process(decl, read_body(decl), process.namespace, process.reader))
    return replace(node, decl=decl)


def stub_components(decl: ProcessDecl) -> tuple[Component, ...]:
    """Return what sets a stub's results apart from those of a real run."""
    if not decl.is_stub:
        return ()
    return (component("options", "stub", identity_digest(b"stub"), "a stub body"),)
