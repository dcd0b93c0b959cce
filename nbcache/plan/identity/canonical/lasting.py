"""What of an object's pickled state is its value: not addresses, nor what looking at it left there.

An installed class may keep counters, views of itself that it made when they were asked for, or
the address of something: they differ between kernels, or after a glance at the object in another
cell, and no result depends on them. Each entry is a class of which that was found. Caches of what
was computed are left out only where they do not travel: one out of date would be seen by a body.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from nbcache.plan.identity.canonical.encoder import Foreign

State = Foreign
Change = Callable[[type, State], State]

_VIEWS = "adj succ pred nodes edges in_edges out_edges degree in_degree out_degree".split()
_WORDS_OF_NODE = 9  # of a node of scipy's trees: 8 bytes each
_POINTERS = (5, 6)
_COUNTERS = slice(7, 11)  # how often a tree of scikit-learn was asked, and how far it was gone into
_TIMES = ("_fit_time", "_score_time")


def lasting(cls: type, state: object) -> object:
    """Return what counts of the state of an object of this class."""
    for change in _changes(cls):
        state = change(cls, state)
    return state


@cache
def _changes(cls: type) -> tuple[Change, ...]:
    names = (f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__)
    return tuple(_CHANGES[name] for name in names if name in _CHANGES)


def _without(*names: str) -> Change:
    """Leave out attributes."""

    def change(_: type, state: State) -> State:
        if type(state) is not dict:  # of a class that somebody derived
            return state
        return {name: part for name, part in state.items() if name not in names}

    return change


def _without_cache(*kept: str) -> Change:
    """Leave out what was computed when it was asked for, but for the names `kept`; it does not
    travel either (`codec.whole`), so no body sees any that is out of date."""

    def change(_: type, state: State) -> State:
        cache = state.get("_cache") if type(state) is dict else None
        if type(cache) is not dict:
            return state
        held = {name: part for name, part in cache.items() if name in kept}
        rest = {name: part for name, part in state.items() if name != "_cache"}
        return {**state, "_cache": held} if held else rest

    return change


def _nothing_for_empty(*names: str) -> Change:
    """Take empty attributes in slots for None, which is what they are until somebody asks."""

    def change(_: type, state: State) -> State:
        if type(state) is not tuple or len(state) != 2 or type(state[1]) is not dict:
            return state
        attributes, slots = state
        return attributes, {
            name: None if name in names and not part else part for name, part in slots.items()
        }

    return change


def _without_counters(_: type, state: State) -> State:
    return state[: _COUNTERS.start] + state[_COUNTERS.stop :]


def _without_pointers(_: type, state: State) -> State:
    """Leave out where in memory the children of each node lie; their numbers are there as well."""
    import numpy as np

    nodes, *rest = state
    if nodes.nbytes % (8 * _WORDS_OF_NODE):  # another version's
        return state
    words = np.frombuffer(nodes, np.int64).reshape(-1, _WORDS_OF_NODE)
    return np.delete(words, _POINTERS, axis=1), *rest


def _without_times(_: type, state: State) -> State:
    """Leave out how long a search took: it differs between equal ones."""
    if type(state) is not dict:
        return state
    kept = {name: part for name, part in state.items() if name != "refit_time_"}
    results = kept.get("cv_results_")
    if type(results) is dict:
        kept["cv_results_"] = {
            name: part for name, part in results.items() if not str(name).endswith(_TIMES)
        }
    return kept


def _with_colours(cls: type, state: State) -> State:
    """Work out the table that a colour map makes when it is first used, and keeps."""
    if type(state) is not dict or state.get("_isinit") is not False or not hasattr(cls, "_init"):
        return state
    used: Foreign = object.__new__(cls)
    used.__dict__.update(state)
    used._init()
    return used.__dict__


_CHANGES: dict[str, Change] = {
    "matplotlib.cbook.CallbackRegistry": _without("_cid_gen"),
    "matplotlib.colors.Colormap": _with_colours,
    "networkx.classes.graph.Graph": _without(*_VIEWS, "__networkx_cache__"),
    "numpy.vectorize": _without("_ufunc"),  # made by the first call
    "pandas.core.groupby.groupby.BaseGroupBy": _without_cache(),
    "pandas.core.groupby.grouper.Grouping": _without_cache("_ilevel"),  # is there from the first
    "pandas.core.groupby.ops.BaseGrouper": _without_cache(),
    "pandas.core.window.rolling.BaseWindow": _without_cache(),
    "scipy.spatial._ckdtree.cKDTree": _without_pointers,
    "sklearn.base.BaseEstimator": _without("_sklearn_version"),  # is a component of its own
    "sklearn.model_selection._search.BaseSearchCV": _without_times,
    "sklearn.feature_extraction.text._VectorizerMixin": _without("_stop_words_id"),
    "sklearn.neighbors._ball_tree.BinaryTree32": _without_counters,
    "sklearn.neighbors._ball_tree.BinaryTree64": _without_counters,
    "sklearn.neighbors._kd_tree.BinaryTree32": _without_counters,
    "sklearn.neighbors._kd_tree.BinaryTree64": _without_counters,
    "sklearn.utils._bunch.Bunch": lambda _, state: None,  # which it makes nothing of
    "statsmodels.genmod.generalized_linear_model.GLM": _without("_tmp_like_exog"),  # never filled
    "xarray.core.dataset.Dataset": _nothing_for_empty("_attrs", "_encoding"),
    "xarray.core.variable.Variable": _nothing_for_empty("_attrs", "_encoding"),
}
