"""Where calls of libraries put what they set, as the libraries are loaded here."""

from __future__ import annotations

import decimal
import importlib
import socket
import sys
import types

import pytest

from nbcache.engine.identity.input_settings import InputSetting, InputSettings
from nbcache.engine.identity.patches import Patch, patched
from nbcache.engine.identity.setters import set_by_call
from nbcache.errors import SettingError
from nbcache.model.digest import identity_digest
from nbcache.plan.identity.module_settings import CALL

PRECISION = Patch("pandas", ("options", "display", "precision"))


@pytest.mark.parametrize(
    ("module", "name", "given", "places"),
    [
        ("pandas", "set_option", ("display.precision",), [str(PRECISION)]),
        ("pandas", "set_option", ("Min_Rows",), ["pandas.options.display.min_rows"]),
        ("pandas", "set_option", ("precision", "nothing like it", "("), []),  # two have the first
        ("pandas.api.extensions", "register_series_accessor", ("geo",), ["pandas.Series.geo"]),
        ("polars.api", "register_expr_namespace", ("geo",), ["polars.Expr.geo"]),
        ("matplotlib", "use", (), []),  # which library draws
        ("polars", "Config", (), []),  # as it comes
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


@pytest.mark.parametrize(
    ("module", "setter", "getter", "change"),
    [
        ("numpy", "seterr", "geterr", {"divide": "raise"}),
        ("numpy", "set_printoptions", "get_printoptions", {"precision": 3}),
        ("sklearn", "set_config", "get_config", {"assume_finite": True}),
    ],
)
def test_what_a_library_tells_of_counts_where_it_is_not_as_it_comes_and_can_be_set(
    module: str, setter: str, getter: str, change: dict[str, object]
) -> None:
    place = Patch(importlib.import_module(module).__name__, (getter, CALL))
    fresh = place.value()
    assert isinstance(fresh, dict)
    call = Patch(module, (setter,))

    assert set_by_call(call, ()) == []
    with patched([(place, {**fresh, **change})]):
        assert set_by_call(call, ()) == [place]
        assert place.value() == {**fresh, **change}
    assert place.value() == fresh


def test_a_time_out_of_sockets_counts_where_there_is_one() -> None:
    place, call = (
        Patch("socket", ("getdefaulttimeout", CALL)),
        Patch("socket", ("setdefaulttimeout",)),
    )

    assert set_by_call(call, ()) == []
    with patched([(place, 5.0)]):
        assert set_by_call(call, ()) == [place]


def test_what_is_given_as_another_mapping_is_set_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    # As xarray does
    options: dict[str, object] = {"keep_attrs": "default"}
    xarray = types.ModuleType("xarray")
    vars(xarray).update(
        get_options=lambda: types.MappingProxyType(dict(options)), set_options=options.update
    )
    monkeypatch.setitem(sys.modules, "xarray", xarray)
    place = Patch("xarray", ("get_options", CALL))

    assert set_by_call(Patch("xarray", ("set_options",)), ()) == [place]
    with patched([(place, types.MappingProxyType({"keep_attrs": True}))]):
        assert options == {"keep_attrs": True}


def test_a_function_of_the_users_own_is_asked_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    module = types.ModuleType("settings_of_mine")
    vars(module).update(get_config=lambda: asked.append(1))
    monkeypatch.setitem(sys.modules, "settings_of_mine", module)

    for name in ("set_config", "setcontext"):
        assert set_by_call(Patch("settings_of_mine", (name,)), ()) is None
    assert asked == []


def test_of_a_context_of_decimals_counts_what_is_not_as_a_process_begins_with_it() -> None:
    call = Patch("decimal", ("setcontext",))
    assert set_by_call(call, ()) == []

    with decimal.localcontext(decimal.Context(prec=5, traps=[decimal.Inexact])):
        found = set_by_call(call, ())
        assert found is not None
        values = {str(each).removeprefix("decimal.getcontext()"): each.value() for each in found}

    assert values == {
        ".prec": 5,
        ".traps[InvalidOperation]": False,
        ".traps[DivisionByZero]": False,
        ".traps[Overflow]": False,
        ".traps[Inexact]": True,
    }
    with patched([(each, True) for each in found if each.steps[-1] == (decimal.Inexact,)]):
        assert decimal.getcontext().traps[decimal.Inexact]
    assert not decimal.getcontext().traps[decimal.Inexact]


def test_what_cannot_be_set_fails_with_its_place_and_puts_the_others_back() -> None:
    socket.setdefaulttimeout(None)
    others = (Patch("socket", ("getdefaulttimeout", CALL)), 5.0)

    with (
        pytest.raises(SettingError, match=r"decimal.getcontext\(\).prec, which .*OverflowError"),
        patched([others, (Patch("decimal", ("getcontext", CALL, "prec")), 10**30)]),
    ):
        pass

    assert socket.getdefaulttimeout() is None


def test_settings_of_a_library_are_those_of_what_it_requires_too() -> None:
    digest = identity_digest(b"")
    settings = InputSettings([InputSetting(Patch("numpy", ("geterr", CALL)), b"", digest)])

    assert settings.digest("numpy") == settings.digest("sklearn") is not None
    assert settings.digest("decimal") is None


def test_for_objects_of_a_module_is_set_what_is_small_and_told_what_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = types.ModuleType("settings_of_mine")
    vars(module).update(SCALE=3, TABLE=bytes(70_000), ROWS=(each for each in ""))
    monkeypatch.setitem(sys.modules, "settings_of_mine", module)
    scale, table, rows = (
        Patch("settings_of_mine", (name,)) for name in vars(module) if name.isupper()
    )

    settings = InputSettings(InputSetting.of(each, lambda _: None) for each in (scale, table, rows))

    assert settings.sent().patches(["settings_of_mine.part", "math"]) == [(scale, 3)]
    assert settings.sent().patches(["math"]) == []
    assert settings.digest("settings_of_mine") == settings.sent().digest("settings_of_mine")
    assert settings.unset("settings_of_mine").keys() == {table, rows}
    assert settings.unset("settings_of_mine")[table] == "it has more than 64 kB"
