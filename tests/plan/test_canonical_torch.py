"""Canonical forms of torch: tensors and modules, where torch is installed."""

from __future__ import annotations

import copy
import pickle

import pytest

from nbcache.errors import NoCanonicalFormError
from nbcache.plan.identity.canonical import canonical_bytes, canonical_digest

torch = pytest.importorskip("torch", reason="torch is not installed: its canonical forms")


def tensors() -> list[object]:
    """Values that a body can tell apart."""
    with_unit = torch.tensor([1, 2])
    with_unit.unit = "m"
    return [
        with_unit,
        torch.tensor([1, 2]),
        torch.tensor([1.0, 2.0]),
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([1.0], dtype=torch.bfloat16),
        torch.tensor([1.0], requires_grad=True),
        torch.nn.Parameter(torch.tensor([1.0])),
        torch.float32,
    ]


def test_tensors_that_a_body_can_tell_apart_never_share_canonical_bytes() -> None:
    found = [canonical_bytes(each) for each in tensors()]
    assert len(set(found)) == len(found)


def test_tensors_survive_copies_and_pickling() -> None:
    for each in tensors():
        digest = canonical_digest(each)
        assert canonical_digest(copy.deepcopy(each)) == digest
        assert canonical_digest(pickle.loads(pickle.dumps(each))) == digest


def test_a_torch_module_counts_by_its_weights() -> None:
    torch.manual_seed(0)
    one = torch.nn.Linear(2, 2)
    other = copy.deepcopy(one)
    assert canonical_digest(one) == canonical_digest(other)
    with torch.no_grad():
        other.weight[0, 0] += 1
    assert canonical_digest(one) != canonical_digest(other)


def test_a_sparse_tensor_is_refused() -> None:
    with pytest.raises(NoCanonicalFormError) as caught:
        canonical_digest(torch.zeros(2).to_sparse())
    assert "sparse" in caught.value.reason
