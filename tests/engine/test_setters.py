"""Where calls of libraries put what they set, as the libraries are loaded here."""

from __future__ import annotations

import decimal
import importlib

import numpy
import pytest

from nbcache.engine.identity.patches import Patch, patched
from nbcache.engine.identity.setters import set_by_call
from nbcache.plan.identity.module_settings import CALL

PRECISION = Patch("pandas", ("options", "display", "precision"))


@pytest.mark.parametrize(
    ("module", "name", "given", "places"),
    [
        ("numpy", "seterr", (), ["numpy.geterr()"]),
        ("socket", "setdefaulttimeout", (), ["socket.getdefaulttimeout()"]),
        ("sklearn", "set_config", (), ["sklearn.get_config()"]),
        ("pandas", "set_option", ("display.precision",), [str(PRECISION)]),
        ("pandas", "set_option", ("Min_Rows",), ["pandas.options.display.min_rows"]),
        ("pandas", "set_option", ("precision", "nothing like it", "("), []),  # two have the first
        ("pandas.api.extensions", "register_series_accessor", ("geo",), ["pandas.Series.geo"]),
        ("polars.api", "register_expr_namespace", ("geo",), ["polars.Expr.geo"]),
        ("matplotlib", "use", (), []),  # which library draws
        ("warnings", "simplefilter", (), None),
        ("numpy", "set_nothing", (), None),
    ],
)
def test_a_call_sets_places_that_hold_it_afterwards(
    module: str, name: str, given: tuple[object, ...], places: list[str] | None
) -> None:
    importlib.import_module(module)

    found = set_by_call(Patch(module, (name,)), given)

    assert (None if found is None else list(map(str, found))) == places


def test_an_option_that_only_a_run_knows_may_be_any_that_is_not_as_it_comes() -> None:
    with patched([(PRECISION, 3)]):
        found = set_by_call(Patch("pandas", ("set_option",)), (None,))

    assert found is not None
    assert PRECISION in found
    assert Patch("pandas", ("options", "display", "max_rows")) not in found


def test_what_a_function_sets_is_set_for_a_while_by_that_function() -> None:
    before = numpy.geterr()
    with patched([(Patch("numpy", ("geterr", CALL)), {**before, "divide": "raise"})]):
        inside = numpy.geterr()["divide"]

    assert (inside, numpy.geterr()) == ("raise", before)


def test_a_context_of_decimals_counts_by_what_it_makes_of_numbers() -> None:
    found = set_by_call(Patch("decimal", ("setcontext",)), ())

    assert found is not None
    assert {each.steps[-1]: each.value() for each in found}["prec"] == decimal.getcontext().prec
