"""How property tests explore: a developer's run tries other examples each time, CI ever the same.

What explores finds true faults at a time when nobody looks for them, and takes minutes to make a
failing example small; so where `CI` is set it does neither, and tries half as many: that they hold
is known from the last time. `NBCACHE_EXAMPLES=20` tries twenty times as many, as after a change of
what such a test is about.
"""

from __future__ import annotations

import os
from math import ceil

import hypothesis
from hypothesis import HealthCheck, Phase

IN_CI = bool(os.environ.get("CI"))
TIMES = float(os.environ.get("NBCACHE_EXAMPLES", "0.5" if IN_CI else "1"))

# How long an example takes says how busy the machine is, and nothing about what is tested.
_PATIENT = hypothesis.settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=ceil(100 * TIMES)
)
_THE_SAME = hypothesis.settings(
    _PATIENT, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
)


def load_profile() -> None:
    """Let all property tests be like that; call it before they are imported."""
    chosen = _THE_SAME if IN_CI else _PATIENT
    hypothesis.settings.register_profile("nbcache", chosen)
    hypothesis.settings.load_profile("nbcache")


def examples(number: int) -> hypothesis.settings:
    """Return the settings of a test that tries so many examples, where it is not told of more."""
    return hypothesis.settings(max_examples=ceil(number * TIMES))
