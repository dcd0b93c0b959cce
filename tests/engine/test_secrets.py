"""Secrets reach the attempt and nothing else: no byte of the cache holds one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow.parquet import read_table

from nbcache.engine.record.explanations import why
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook
from tests.engine.web import serving
from tests.waiting import PATIENCE_S

SECRET = "s3cr3t-t0ken-XYZZY"


def leaks(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize(
    "body",
    [
        "print(os.environ['TOKEN'])\nout = v",
        "raise ValueError(os.environ['TOKEN'])\nout = v",
        "out = os.environ['TOKEN']",
        "out = {'key': [os.environ['TOKEN']] * 3000}",
        "display(os.environ['TOKEN'])\nout = v",
        "for each in os.environ['TOKEN']:\n    print(each, end='', flush=True)\nout = v",
        "import ctypes\nprint(os.environ['TOKEN'], flush=True)\nctypes.string_at(0)\nout = v",
    ],
)
def test_no_byte_of_the_cache_holds_a_secret(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    notebook.cell("%channel src = of(1)")
    notebook.cell(f"%%process work(v) -> out from src --secret TOKEN\nimport os\n{body}")
    notebook.run()
    notebook.close()
    assert not leaks(notebook.folder)


def test_no_byte_of_a_shared_cache_holds_a_secret(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are compressed: they are read as rows, too."""
    for name in ("TOKEN", "SERVICE_TOKEN", "PLAIN"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / "settings"))
    (tmp_path / "team").mkdir()
    notebook.session.share(str(tmp_path / "team"), claim="always")
    tier = notebook.session.tier()
    assert tier is not None
    with serving() as web:
        web.put("book.txt", "words", '"v1"')
        notebook.cells(
            [
                f"%channel source = value(path('{web.url}/book.txt?token={SECRET}'))",
                f"%channel src = product(v=[1], api_key=[{SECRET!r}])",
                f"password, url = {SECRET!r}, 'postgresql://me:{SECRET}@db/x'",
                "%%process read(f: path) from source\nf.read_text()",
                "%%process shown(v) from src --secret TOKEN --env SERVICE_TOKEN,PLAIN\n"
                "import os\nprint(os.environ['TOKEN'], os.environ['SERVICE_TOKEN'])\nv + 1",
                "%%process kept(v, api_key) from src --tag t-{api_key}\n"
                "print(password, url, api_key)\nlen(password + url + api_key)",
                "%%process failing(v, api_key) from src\nraise ValueError(api_key, password, url)",
            ]
        )
        run = notebook.run()
        assert run.counts() == {"completed": 3, "failed": 1}
        assert tier.finish(PATIENCE_S)
        notebook.run()
        assert tier.finish(PATIENCE_S)

    team = tmp_path / "team"
    rows = [row for path in team.rglob("*.parquet") for row in read_table(path).to_pylist()]
    assert {row["process"] for row in rows} >= {"read", "shown", "kept", "failing"}
    assert {path.parent.name for path in team.glob("*/*")} >= {"claims", "filestate", "log"}
    assert SECRET not in repr(rows)
    assert not leaks(team)


def test_no_file_of_the_cache_holds_a_secret(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    notebook.cell("%channel src = of(1)")
    notebook.cell(
        '%%process work(v) -> out: path = "d" from src --bash --secret TOKEN\n'
        'mkdir d; : > d/empty; echo "key=$TOKEN" > d/config'
    )
    run = notebook.run()
    assert "output 'd' holds the secret TOKEN" in run.failures[0].error
    workdir = run.failures[0].workdir
    assert workdir is not None
    kept = Path(workdir)
    assert all(kept in path.parents for path in leaks(notebook.folder))


def test_a_secret_that_is_not_set_is_an_error_only_where_a_task_runs(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src --secret TOKEN\nout = v")
    run = notebook.run()
    assert run.status is RunStatus.FAILED
    assert "secret TOKEN is not set" in run.failures[0].error
    monkeypatch.setenv("TOKEN", SECRET)
    assert notebook.run().counts() == {"completed": 1}
    monkeypatch.delenv("TOKEN")
    assert notebook.run().counts() == {"cached": 1}


def test_a_declared_variable_that_is_not_set_is_no_undeclared_read(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell(
        "%%process work(v) -> out from src --env NBCACHE_TEST_UNSET\n"
        "import os\nout = os.environ.get('NBCACHE_TEST_UNSET')"
    )
    assert not notebook.run().notes


CLASS = """
from dataclasses import dataclass
@dataclass
class Cfg:
    api_key: str
    rate: float
"""

LOOKS_SECRET = {
    "captured": ("api_token = {secret!r}", "out = len(api_token)"),
    "in a dict": ("config = dict(host='h', db=dict(password={secret!r}))", "out = len(config)"),
    "printed": ("api_key = {secret!r}", "print('it is', api_key)\nout = len(api_key)"),
    "in an error": ("password = {secret!r}", "raise ValueError('no ' + password)\nout = 1"),
    "in an error's message": (
        "tokens = dict(token={secret!r})",
        "tokens[tokens['token']]\nout = 1",
    ),
    "in the environment": ("", "import os\nprint(os.environ['SERVICE_TOKEN'])\nout = 1"),
    "in objects": (
        CLASS
        + "class Held:\n    def __init__(self, at): self.at = at\n"
        + "def sender(token):\n    return lambda: len(token)\n"
        + "held = [Cfg({secret!r}, 0.1)]\nconfig = held[0]\n"
        + "credentials = Held({secret!r})\nsend = sender({secret!r})",
        "out = len(held[0].api_key + config.api_key + credentials.at) + send()",
    ),
    "deep": ("held = [[dict(password={secret!r})]]", "out = len(held)"),
    "in a call": (
        "import functools\nconnect = functools.partial(dict, token={secret!r})",
        "out = len(connect())",
    ),
    "as bytes": ("signing_key = {secret!r}.encode()", "out = len(signing_key)\nprint(signing_key)"),
}


@pytest.mark.parametrize("how", LOOKS_SECRET)
def test_no_row_holds_what_a_name_says_is_secret_though_nobody_declared_it(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", SECRET)
    setting, body = LOOKS_SECRET[how]
    notebook.cell(setting.format(secret=SECRET))
    notebook.cell("%channel src = of(1)")
    notebook.cell(f"%%process work(v) -> out from src --env SERVICE_TOKEN\n{body}")
    run = notebook.run()
    notebook.close()

    assert run.done
    kept = notebook.session.cache.work  # of a failed attempt: never shared
    assert [path for path in leaks(notebook.folder) if kept not in path.parents] == []


OF_THE_ENVIRONMENT = """
import functools, numpy, os, pathlib
mine = os.environ["SERVICE_TOKEN"]
raw, url, place = mine.encode(), f"see https://h/?k={mine}", pathlib.Path("/x") / mine
long = "." * 70 + mine
pair, nested, chosen, keys = [mine, 1], {"a": [[[mine]]]}, {mine}, {mine: 1}
call, text = functools.partial(len, mine), numpy.str_(mine)
"""


def test_what_a_secret_variable_holds_is_known_by_digest_alone_under_any_name(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", SECRET)
    notebook.cell(OF_THE_ENVIRONMENT)
    notebook.cell("level = 'none'")
    notebook.session.given["level"] = repr(SECRET)
    notebook.cell("%channel each = of(mine, url, text, pair, nested, chosen, keys, long)")
    notebook.cell("%channel all_of = each.collect()")
    notebook.cell("%channel one = all_of.map(lambda held: {'held': held[0]})")
    notebook.cell("%%process work(v) -> out from each --tag t-{v}\nout = 1")
    notebook.cell("%%process gather(many) -> out from all_of\nout = 1")
    notebook.cell(
        "%%process use(held) -> out from one\n"
        "out = len([raw, url, place, pair, nested, chosen, keys, call, text, mine, level, long])"
    )
    first = notebook.run()
    assert first.counts() == {"completed": 10}
    again = notebook.run()
    assert again.counts() == {"cached": 10}
    notebook.cell("%channel worse = use.map(lambda n: {}[mine])")
    notebook.cell("%%process late(w) -> out from worse\nout = w")
    assert "KeyError" in notebook.run("late").error
    labels = [
        task.label for run in (first, again) for name in ("work", "use") for task in run[name].tasks
    ]
    notebook.close()

    assert not leaks(notebook.folder)
    assert not any(SECRET[:6] in label for label in labels)


def test_inputs_and_parameters_that_look_secret_are_known_by_digest_alone(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel src = of({'token': '" + SECRET + "'}).map(lambda row: row)")
    notebook.cell("%channel plain = of(1)")
    notebook.cell("%%process work(token, v) -> out from src, plain\nprint(token)\nout = v")
    notebook.cell(f"access_key = {SECRET!r}")
    notebook.session.given["access_key"] = repr(SECRET)
    first = notebook.run()
    assert first.counts() == {"completed": 1}
    assert notebook.run().counts() == {"cached": 1}
    notebook.cell("%channel src = of({'token': 'another'}).map(lambda row: row)")
    assert notebook.run().counts() == {"completed": 1}
    notebook.close()

    assert not leaks(notebook.folder)


def test_what_grants_access_in_a_url_is_known_by_digest_alone_where_it_is_a_text(
    notebook: Notebook,
) -> None:
    signed = f"https://host/x.csv?page=1&X-Amz-Signature={SECRET}"
    others = [
        f"https://host/x.csv#access_token={SECRET}",
        f"https://host/api/run?code={SECRET * 2}",
        f"postgresql://me:wo/{SECRET}@db:5432/x",
        f"ftp://me:{SECRET}::x@host/y",
    ]
    notebook.cell("url = ''")
    notebook.session.given["url"] = repr(signed)
    notebook.names.update(captured=signed, items=[signed, {"at": [signed]}, *others])
    notebook.cell("%channel each = of(*items)")
    notebook.cell(
        "%%process work(v) -> out from each --tag {v}\nprint(v, captured)\nout = len(url)"
    )
    first = notebook.run()
    assert first.counts() == {"completed": 6}
    assert notebook.run().counts() == {"cached": 6}
    notebook.names.update(captured=signed.replace("page=1", "page=2"))
    assert notebook.run().counts() == {"completed": 6}
    labels = [task.label for task in first["work"].tasks]
    notebook.close()

    assert not leaks(notebook.folder)
    assert not any(SECRET[:6] in label for label in labels)


@pytest.mark.parametrize(
    "value", ["Cfg(key, rate)", "[Cfg(key, rate)]", "dict(one=Cfg(key, rate))"]
)
def test_an_object_that_travels_is_told_by_its_parts_but_for_what_looks_secret(
    notebook: Notebook, value: str
) -> None:
    notebook.cell(f"{CLASS}\nkey, rate = {SECRET!r}, 0.1\nheld = {value}")
    notebook.cell("%channel src = value(held)")
    notebook.cell("%%process work(c) -> out from src\nout = 1")
    assert notebook.run().counts() == {"completed": 1}
    notebook.cell(f"rate = 0.2\nheld = {value}")
    run = notebook.run()
    assert run.counts() == {"completed": 1}
    told = why(notebook.session.cache, ["work"])
    notebook.close()

    assert ".rate 0.1 → 0.2" in told.head
    stored = [path for path in leaks(notebook.folder) if "blobs" not in path.parts]
    assert stored == []


def test_neither_labels_nor_errors_quote_what_a_secret_looking_input_is(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "%channel src = of(1)",
            f"%%process login(v) -> token from src\ntoken = {SECRET[::-1]!r}[::-1]",
            "%%process use(token) -> n from login\nn = len(token)",
            "%%process misfit(token: int) -> n from login.map(str)\nn = token",
            f"%channel given = of({SECRET!r}).collect()",
            "%%process misfits(token: list[int]) -> n from given\nn = 1",
        ]
    )
    run = notebook.run()

    assert SECRET not in run["use"].tasks[0].label
    for failed in (run, notebook.run("misfits")):
        assert "declared as int" in failed.failures[0].error
        assert SECRET not in failed.failures[0].error
