"""Every store passes the examination, and a bad one is found out."""

from __future__ import annotations

import pytest

from tests.store.conformance.examination import EXAMS
from tests.store.conformance.places import AnyPlace


@pytest.mark.parametrize("exam", sorted(EXAMS))
def test_a_store_keeps_the_promise_that(exam: str, place: AnyPlace) -> None:
    EXAMS[exam](place)
