"""Stub runs: the stub body of a process in place of its body, for all processes that have one.

A stub counts as code of its own kind, so that no real run takes what a stub made, even where the
two texts are equal. Where a process has none, its body runs, and its results are those of any run.
A stub run shows nothing to people: it publishes nothing and leaves `store` folders alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from nbcache.engine.declared.pipeline import Pipeline
from nbcache.engine.declared.process import (
    Process,
    check_filled,
    decl_from_function,
    function_scope,
    read_body,
)
from nbcache.errors import BodyError, DeclarationError
from nbcache.model.channel import CompiledNode, Graph
from nbcache.model.digest import identity_digest
from nbcache.model.fingerprint import Component
from nbcache.model.process import ProcessDecl
from nbcache.plan.identity.fingerprint import component

_IS_STUB = component("options", "stub", identity_digest(b"stub"), "a stub body")


def stub_of(decl: ProcessDecl) -> ProcessDecl:
    """Return the declaration whose body is the stub; the declared outputs stay."""
    assert decl.stub is not None
    own = decl.stub_decl
    if own is not None:  # a function, which stands elsewhere
        return replace(
            decl,
            body=own.body,
            body_line=own.body_line,
            cell=own.cell,
            filename=own.filename,
            source=own.source,
            source_line=own.source_line,
            function=own.function,
            stub=None,
            stub_decl=None,
            is_stub=True,
        )
    return replace(
        decl, body=decl.stub, body_line=decl.stub_line, stub=None, is_stub=True, scripts=()
    )


def with_stub(decl: ProcessDecl, function: Callable[..., object]) -> ProcessDecl:
    """Return the declaration of the twin with a function as its stub, which is checked.

    Raises:
        DeclarationError: the function cannot be a stub of it.
    """
    if function.__name__ == "<lambda>":
        raise BodyError(f"the stub of {decl.name!r} is a lambda: write a function with def")
    own = decl_from_function(function, outputs=_names(decl))
    known = {each.name for each in decl.inputs or ()}
    unknown = [each.name for each in own.inputs or () if each.name not in known]
    if unknown:
        raise BodyError(
            f"the stub of {decl.name!r} takes {unknown[0]}, which is none of its inputs",
            hint=f"they are: {', '.join(sorted(known)) or 'none'}; it may take any of them",
        )
    complete = replace(decl, stub=own.body, stub_decl=own)
    check_stub(complete, function_scope(function))
    return complete


def _names(decl: ProcessDecl) -> Sequence[str] | None:
    """Return the names of several outputs, into which a tuple that is returned is taken apart."""
    return [each.name for each in decl.outputs or ()] or None


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
        names = process.namespace if decl.function is None else function_scope(decl.function)
        pipeline.note(decl, Process(decl, read_body(decl), names, process.reader))
    return replace(node, decl=decl)


def stub_components(decl: ProcessDecl) -> tuple[Component, ...]:
    """Return what sets a stub's results apart from those of a real run."""
    if not decl.is_stub:
        return ()
    return (_IS_STUB,)


def is_of_stub(components: Iterable[Component]) -> bool:
    """Say whether these are what a stub's results were made of."""
    return any(each.key == _IS_STUB.key for each in components)
