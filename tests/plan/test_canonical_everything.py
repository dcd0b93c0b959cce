"""Every kind of value: equal canonical bytes if and only if a body cannot tell the values apart."""

from __future__ import annotations

import base64
import copy
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.codec.registry import decode, encode
from nbcache.engine.identity.payload import pickle_names, unpickle_names
from nbcache.errors import NoCanonicalFormError
from nbcache.plan.identity.canonical import canonical_bytes, canonical_digest
from tests.exploring import examples
from tests.plan import recipes
from tests.plan.recipes import KINDS, Recipe, build, key, leaf

_TELL = """
import base64, pickle, sys
from nbcache.plan.identity.canonical import canonical_digest
from tests.plan.recipes import build, leaf
for each in pickle.loads(base64.b64decode(sys.stdin.read())):
    print(canonical_digest(build(each), leaf=leaf))
"""


@given(recipes.two_recipes)
@examples(600)
def test_bytes_are_equal_if_and_only_if_a_body_sees_the_same(two: tuple[Recipe, Recipe]) -> None:
    one, other = (canonical_bytes(build(each), leaf=leaf) for each in two)
    assert (one == other) == (key(two[0]) == key(two[1]))


@given(st.lists(recipes.recipes, min_size=1, max_size=3))
@examples(100)
def test_copies_in_any_container_have_the_same_bytes(several: list[Recipe]) -> None:
    several = [each for each in several if each[0] not in recipes.NEVER_SENT]
    value = {"a": [build(each) for each in several], "b": tuple(map(build, several[:1]))}
    told = canonical_digest(value, leaf=leaf)
    kept = encode(value)
    copies: list[object] = [decode(kept.codec, kept.data, vouched=True)]
    copies += [unpickle_names(pickle_names({"value": value}, {}).data)["value"]]
    if recipes.NEVER_COPIED.isdisjoint(kind for kind, _ in several):
        copies += [copy.deepcopy(value)]
    assert {canonical_digest(each, leaf=leaf) for each in copies} == {told}
    assert canonical_digest(value, leaf=leaf) == told, "to encode it has changed it"


@given(st.tuples(*(st.tuples(st.just(name), KINDS[name].params) for name in sorted(KINDS))))
@examples(2)
def test_another_process_with_another_hash_seed_gives_the_same(every: tuple[Recipe, ...]) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _TELL],
        input=base64.b64encode(pickle.dumps(every)).decode(),
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == [canonical_digest(build(each), leaf=leaf) for each in every]


def test_a_temporary_folder_is_refused_since_its_name_is_another_every_time() -> None:
    with tempfile.TemporaryDirectory() as name:
        assert canonical_digest(name) == canonical_digest(str(name))
    with pytest.raises(NoCanonicalFormError, match="a temporary folder"):
        canonical_digest({"folder": tempfile.TemporaryDirectory()})
