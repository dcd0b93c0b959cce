"""The hash of a task: unambiguous, the same for ever, and made of exactly its components."""
# ruff: noqa: E501 - sources and expressions on their line

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.model.digest import Digest, identity_digest
from nbcache.model.fingerprint import Component
from nbcache.plan.identity.code import normalise
from nbcache.plan.identity.fingerprint import FORMAT, KINDS, SharedPart, component, encode
from nbcache.plan.identity.module_facts import read_module
from nbcache.plan.identity.module_reach import ModuleReach
from nbcache.plan.identity.module_relations import ModuleRelations

GOLDEN = Path(__file__).parents[1] / "golden" / "fingerprint.json"


def _digest(text: str) -> Digest:
    return identity_digest(text.encode())


def _component(kind: str, name: str, text: str) -> Component:
    return component(kind, name, _digest(text))


SOURCES = {
    "constants": "x = [1, 1.0, True, '1', b'1', None, ..., 1j, -0.0, 10**30, 0xff, 1_000]",
    "docstrings": "'module'\ndef f():\n    'doc'\n    return 'kept'\nclass C:\n    'doc'\n    x = 1",
    "control": "for i in range(3):\n    while i:\n        break\n    else:\n        continue",
    "match": "match x:\n    case [1, *rest] if rest: pass\n    case {'a': None, **k}: pass\n    case None | True: pass",
    "text": "f'{x!r:>{width}}' + 'a' 'b' + u'c' + r'\\d'",
    "functions": "async def f(a, /, b: int = 1, *c, d=2, **e) -> str:\n    return await (lambda *x: x)(a)",
    "imports": "import a.b as c\nfrom d import e as f, g",
}  # fmt: skip

MODULE = "import numpy as np\nLIMIT = 3\ndef used(v):\n    return helper(v) + LIMIT\ndef helper(v):\n    return np.sum(v)\ndef unused():\n    return 1\n"


def _golden() -> dict[str, object]:
    shared = SharedPart(_component(kind, "name", kind) for kind in sorted(KINDS) if kind != "input")
    known = ModuleRelations(
        lambda name: read_module(name, MODULE, is_package=False) if name == "m" else None
    )
    reach = ModuleReach(known)
    reach.read("m", [("used",)])
    return {
        "format": FORMAT,
        "kinds": KINDS,
        "no inputs": shared.task_hash([]),
        "two inputs": shared.task_hash([("b", "input", _digest("2")), ("a", "file", _digest("1"))]),
        "module": reach.modules["m"].digest(),
        "sources": {name: identity_digest(normalise(text)) for name, text in SOURCES.items()},
    }


def test_hashes_are_those_of_the_golden_file() -> None:
    """A difference here makes every cache useless: raise FORMAT or the kind's version with it."""
    assert _golden() == json.loads(GOLDEN.read_text())


@given(st.tuples(*[st.text(max_size=3)] * 2), st.tuples(*[st.text(max_size=3)] * 2))
def test_no_two_components_have_one_encoding(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (encode(*one, 1, "xxh3:0") == encode(*other, 1, "xxh3:0")) == (one == other)


def test_the_order_in_which_components_are_found_does_not_matter() -> None:
    components = [_component("helper", name, name) for name in "cab"]

    one = SharedPart(components).task_hash([])
    other = SharedPart(reversed(components)).task_hash([])

    assert one == other


def test_inputs_are_told_apart_by_name_kind_and_digest() -> None:
    shared = SharedPart([])
    hashes = {
        shared.task_hash([("a", "input", _digest("1"))]),
        shared.task_hash([("b", "input", _digest("1"))]),
        shared.task_hash([("a", "file", _digest("1"))]),
        shared.task_hash([("a", "input", _digest("2"))]),
        shared.task_hash([("a", "input", _digest("1")), ("b", "input", _digest("1"))]),
        shared.task_hash([]),
    }

    assert len(hashes) == 6


def test_a_task_does_not_change_the_state_that_it_shares() -> None:
    shared = SharedPart([_component("code", "body", "x")])
    first = shared.task_hash([("a", "input", _digest("1"))])
    shared.task_hash([("a", "input", _digest("2"))])

    assert shared.task_hash([("a", "input", _digest("1"))]) == first


def test_the_version_of_an_encoder_is_part_of_the_hash() -> None:
    one = Component("helper", "f", 1, _digest("f"))
    other = Component("helper", "f", 2, _digest("f"))

    assert SharedPart([one]).task_hash([]) != SharedPart([other]).task_hash([])


def test_summary_and_evidence_are_not_part_of_the_hash() -> None:
    one = component("helper", "f", _digest("f"), "cell 3, line 4", "def f(): pass")
    other = component("helper", "f", _digest("f"), "cell 7, line 1", "def f():\n    pass")

    assert SharedPart([one]).task_hash([]) == SharedPart([other]).task_hash([])


def test_two_components_of_one_name_are_a_fault() -> None:
    with pytest.raises(ValueError, match="two components are called helper f"):
        SharedPart([_component("helper", "f", "1"), _component("helper", "f", "2")])
