"""Remote files as inputs: known by content, fetched once, by the kernel; errors that say why."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcache.engine.identity.remote import matching
from nbcache.errors import ChannelError
from nbcache.model.task import RunStatus
from nbcache.model.value import RemoteFile
from tests.engine.notebooks import Notebook
from tests.engine.web import Web, serving
from tests.servers.s3 import s3_server
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as found:
        yield found


def read(notebook: Notebook, url: str, options: str = "") -> None:
    """Declare a process that reads one remote file."""
    notebook.cell(f"%channel src = value(path({url!r}))")
    notebook.cell(
        f"%%process work(f: path) -> text from src {options}\n{notebook.mark('f.name')}\n"
        "text = f.read_text()"
    )


def error_of(notebook: Notebook) -> str:
    run = notebook.run()
    assert run.status is RunStatus.FAILED
    return run.fault or run.failures[0].error


def everything_kept(folder: Path) -> bytes:
    """Return all that a cache has on disk, in one piece."""
    return b"".join(each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file())


def test_a_file_is_fetched_once_and_asked_for_its_tag_afterwards(
    notebook: Notebook, web: Web
) -> None:
    read(notebook, web.put("x.txt", "one", '"1"'))

    assert notebook.run()["work"].value == "one"
    assert web.downloads() == ["x.txt"]
    assert notebook.run().counts() == {"cached": 1}
    assert web.downloads() == []


def test_another_content_runs_and_the_same_under_another_tag_does_not(
    notebook: Notebook, web: Web
) -> None:
    read(notebook, web.put("x.txt", "one", '"1"'))
    notebook.run()

    web.put("x.txt", "one", '"2"')
    assert notebook.run().counts() == {"cached": 1}

    web.put("x.txt", "two", '"3"')
    assert notebook.run()["work"].value == "two"


def test_two_urls_and_a_file_beside_the_notebook_with_one_content_are_one_input(
    notebook: Notebook, web: Web
) -> None:
    (notebook.folder / "x.txt").write_text("one")
    read(notebook, web.put("a/x.txt", "one", '"1"'))
    notebook.run()

    for url in (web.put("b/x.txt", "one", '"9"'), str(notebook.folder / "x.txt")):
        read(notebook, url)
        assert notebook.run().counts() == {"cached": 1}
    read(notebook, web.put("b/y.txt", "one", '"1"'))
    assert notebook.run().counts() == {"completed": 1}, "a body sees the name"


@pytest.mark.parametrize("tag", ["", 'W/"1"'])
def test_without_a_strong_tag_the_content_decides_each_time(
    notebook: Notebook, web: Web, tag: str
) -> None:
    read(notebook, web.put("x.txt", "one", tag))
    notebook.run()

    assert notebook.run().counts() == {"cached": 1}
    assert web.downloads() == ["x.txt", "x.txt"]
    web.put("x.txt", "two", tag)
    assert notebook.run()["work"].value == "two"


def test_cheaper_modes_take_what_the_server_says(notebook: Notebook, web: Web) -> None:
    for mode, hits in (("standard", False), ("lenient", True)):
        web.modified = "Mon, 01 Jan 2024 00:00:00 GMT"
        read(notebook, web.put(f"{mode}.txt", "one"), f"--cache {mode}")
        notebook.run()
        web.downloads()
        assert notebook.run().counts() == {"cached": 1}
        assert web.downloads() == []
        web.modified = "Tue, 02 Jan 2024 00:00:00 GMT"
        assert notebook.run().counts() == ({"cached": 1} if hits else {"completed": 1})


def test_a_server_that_tells_neither_tag_nor_time_has_its_content_compared(
    notebook: Notebook, web: Web
) -> None:
    web.modified = ""
    read(notebook, web.put("x.txt", "one"), "--cache standard")
    notebook.run()

    assert notebook.run().counts() == {"cached": 1}
    web.put("x.txt", "two")
    assert notebook.run()["work"].value == "two"


def test_many_tasks_share_one_download_and_a_plan_says_what_the_run_does(
    notebook: Notebook, web: Web
) -> None:
    notebook.cell(f"%channel big = value(path({web.put('big.txt', 'abc', 'x')!r}))")
    notebook.cell("%channel numbers = of(0, 1, 2)")
    notebook.cell("%%process work(f: path, n) -> c from big, numbers\nc = f.read_text()[n]")

    (plan,) = notebook.session.plan()
    assert (plan.to_run, plan.cached) == (3, 0)
    assert sorted(notebook.run()["work"]) == ["a", "b", "c"]
    assert web.downloads() == ["big.txt"]
    (plan,) = notebook.session.plan()
    assert (plan.to_run, plan.cached) == (0, 3)


def many(notebook: Notebook, web: Web, size: int) -> None:
    """Declare a process that reads four files, which come slowly."""
    web.held = threading.Event()
    urls = [web.put(f"{number}.txt", str(number) * size, f'"{number}"') for number in range(4)]
    notebook.cell(f"%channel src = of(*{urls!r})")
    notebook.cell("%channel files = src.map(lambda url: path(url))")
    notebook.cell("%%process work(f: path) -> text from files\ntext = f.read_text()[0]")


def test_several_files_come_at_once_and_the_run_says_how_far_they_are(
    notebook: Notebook, web: Web
) -> None:
    many(notebook, web, 8_000)
    assert web.held is not None
    run = notebook.session.start()
    try:
        wait_until(lambda: len([each for each in web.asked if each.startswith("GET ")]) == 4)
        wait_until(lambda: run.progress().waits)
        assert run.progress().waits[0].text.startswith(f"fetching {web.url}/")
    finally:
        web.held.set()
    assert run.wait(PATIENCE_S)

    assert sorted(run["work"]) == ["0", "1", "2", "3"]
    assert run.progress().waits == ()
    assert web.downloads() == ["0.txt", "1.txt", "2.txt", "3.txt"]


def test_a_cancelled_run_ends_its_downloads_and_keeps_nothing_of_them(
    notebook: Notebook, web: Web
) -> None:
    many(notebook, web, 100_000)
    assert web.held is not None
    run = notebook.session.start()
    try:
        wait_until(lambda: len([each for each in web.asked if each.startswith("GET ")]) == 4)
        wait_until(lambda: run.progress().waits)
        run.cancel()
        assert run.wait(PATIENCE_S)
        assert run.status is RunStatus.CANCELLED
        assert web.left.wait(PATIENCE_S)
    finally:
        web.held.set()
    web.held = None
    web.downloads()

    assert sorted(notebook.run()["work"]) == ["0", "1", "2", "3"]
    assert web.downloads() == ["0.txt", "1.txt", "2.txt", "3.txt"]


def test_a_fetched_file_that_was_cleaned_away_is_fetched_again_when_a_task_needs_it(
    notebook: Notebook, web: Web
) -> None:
    read(notebook, web.put("x.txt", "one", '"1"'))
    notebook.run()
    for blob in (notebook.session.cache.root / "blobs").rglob("*/*"):
        blob.unlink()

    notebook.cell("%%process other(f: path) -> n from src\nn = len(f.read_text())")
    web.downloads()
    run = notebook.run()

    assert run["other"].value == 3
    assert web.downloads() == ["x.txt"]


def test_a_body_may_take_it_by_a_list_or_by_its_place_in_a_list(
    notebook: Notebook, web: Web
) -> None:
    one, two = web.put("1.txt", "one", '"1"'), web.put("2.txt", "two", '"2"')
    notebook.cell(f"%channel src = of(path({one!r}), path({two!r}))")
    notebook.cell(
        "%%process work(f: list[path]) -> text from src.collect()\n"
        "text = [each.read_text() for each in f]"
    )
    assert notebook.run()["work"].value == ["one", "two"]
    assert notebook.run().counts() == {"cached": 1}


def test_what_is_secret_in_a_url_is_in_no_row_and_a_new_signature_is_no_new_file(
    notebook: Notebook, web: Web
) -> None:
    plain = web.put("x.txt", "one", '"1"')
    signed = plain.replace("//", "//me:pass-9421@") + "?X-Amz-Signature=sig-7733&part=1"
    notebook.names["source"] = signed
    notebook.cell("%channel src = value(path(source))")
    notebook.cell("%%process work(f: path) -> text from src\ntext = f.name + f.read_text()")

    assert notebook.run()["work"].value == "x.txtone"
    notebook.names["source"] = signed.replace("7733", "8844")
    web.downloads()
    assert notebook.run().counts() == {"cached": 1}
    assert web.downloads() == []

    notebook.close()
    kept = everything_kept(notebook.folder / "cache")
    assert b"x.txt" in kept
    for secret in (b"pass-9421", b"sig-7733", b"sig-8844"):
        assert secret not in kept


def test_two_places_behind_one_password_are_two_files_whatever_their_paths_have_in_them(
    notebook: Notebook, web: Web
) -> None:
    for name, text in (("@one", "AAAA"), ("@two", "BBBB")):
        url = web.put(f"{name}@lab/x.txt", text, '"1"').replace("//", "//me:pass-9421@")
        notebook.names["source"] = url
        notebook.cell("%channel src = value(path(source))")
        notebook.cell("%%process work(f: path) -> text from src\ntext = f.read_text()")
        assert notebook.run()["work"].value == text


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://me:word@host/scope/x.tgz", "https://host/scope/x.tgz"),
        ("https://me:word@host/@scope/x.tgz", "https://…@scope/x.tgz"),
        ("https://host/@scope/x.tgz", "https://host/@scope/x.tgz"),
        ("https://host:8080/data@2/x.csv", "https://host:…@2/x.csv"),
        ("https://host:8080/data/x.csv", "https://host:8080/data/x.csv"),
        ("http://me:1234/word@host/x.csv", "http://me:…@host/x.csv"),
        ("ftp://host:9/home/a@b/x.csv", "ftp://host:…@b/x.csv"),
        ("ftp://me:w@ord/x@host/x.csv", "ftp://…@host/x.csv"),
        ("sftp://me@firm.org:wo/rd@host/x.csv", "sftp://…@host/x.csv"),
        ("sftp://me:word@[::1]:22/x.csv", "sftp://[::1]:22/x.csv"),
        ("https://[::1]:80/x", "https://[::1]:80/x"),
        ("ftp://me:SECRET::x@host/y", "ftp://host/y"),
        ("ftp://me:SEC/RET::x@host/y", "ftp://…@host/y"),
        ("https://host/x.csv#access_token=word", "https://host/x.csv#…"),
        ("https://host/x.csv?a=word#b", "https://host/x.csv?…"),
        ("sftp://host/a#1.txt", "sftp://host/a#1.txt"),
        ("http://me:wo/rd@host/x.csv", "http://…@host/x.csv"),
        ("sftp://me:wo/r/d@host/x.csv", "sftp://…@host/x.csv"),
        ("sftp://me:12/wo/rd@host/x.csv", "sftp://me:…@host/x.csv"),
        ("ftp://me:w#o/rd@host/x.csv", "ftp://…@host/x.csv"),
        ("ftp://me:w?o/rd@host/x.csv", "ftp://…?…"),
        ("s3://KEY:word@lab/reads@2024/x.fq", "s3://…@2024/x.fq"),
        ("s3://KEY:word/lab/x.fq", "s3://…"),
        ("s3://KEY:wo/rd@lab/reads/x.fq", "s3://…@lab/reads/x.fq"),
        (
            "s3://arn:aws:s3:eu-west-1:12:accesspoint/x",
            "s3://arn:aws:s3:eu-west-1:12:accesspoint/x",
        ),
        ("gs://KEY:1234/word@lab/x.fq", "gs://…@lab/x.fq"),
        ("az://KEY:word/lab/x", "az://…"),
        ("az://KEY:word@lab/x", "az://lab/x"),
        ("az://KEY:word@lab/x@2", "az://…@2"),
        ("az://lab@account/x@2", "az://lab@account/x@2"),
        ("simplecache::s3://KEY:wo/rd@lab/x", "simplecache::s3://…@lab/x"),
        ("zip://a:b/c@d.txt::s3://lab/x.zip", "zip://a:b/c@d.txt::s3://lab/x.zip"),
        ("zip://a::simplecache::sftp://me:word@h/x", "zip://a::simplecache::sftp://h/x"),
        ("zip://x.csv::/data/b.zip", "zip://x.csv::/data/b.zip"),
    ],
)
def test_a_place_is_shown_without_what_is_secret_and_with_all_of_its_path(
    url: str, place: str
) -> None:
    assert RemoteFile(url).place == place


@pytest.mark.parametrize("taken", ["source", "path(source)"])
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://KEY:word-9421/lab/x.fq", "s3://…"),
        ("gs://KEY:word-9421/lab/x.fq", "gs://…"),
        ("ftp://me:12/word-9421@127.0.0.1:9/x.fq", "ftp://me:…@127.0.0.1:9/x.fq"),
        ("http://me:w/word-9421@127.0.0.1:9/x.fq", "http://…@127.0.0.1:9/x.fq"),
        ("http://127.0.0.1:9/x.fq?word=word-9421", "http://127.0.0.1:9/x.fq?…"),
    ],
)
def test_a_url_that_is_none_or_a_mere_text_fails_its_task_and_its_secret_is_kept_and_told_nowhere(
    notebook: Notebook, taken: str, url: str, told: str
) -> None:
    (notebook.folder / "team").mkdir()
    notebook.session.share(str(notebook.folder / "team"))
    notebook.names["source"] = url
    notebook.cell(f"%channel src = of({taken})")
    notebook.cell("%%process work(f: path) -> n from src\nn = 1")

    run = notebook.run()

    error = run.failures[0].error
    assert told in error or (taken == "source" and "no file (not shown)" in error)
    tier = notebook.session.tier()
    assert tier is not None
    assert tier.finish(PATIENCE_S)
    kept = everything_kept(notebook.folder / "cache") + everything_kept(notebook.folder / "team")
    for told_or_kept in (kept, repr(run.failures).encode(), repr(run.reasons).encode()):
        assert b"word-9421" not in told_or_kept


def test_errors_say_what_is_wrong_and_the_way_out(notebook: Notebook, web: Web) -> None:
    web.put("secret.txt", "x")
    web.refused.update({"secret.txt": 403, "late.txt": 503})

    read(notebook, f"{web.url}/none.txt")
    assert "no file http://127.0.0.1" in error_of(notebook)
    assert "404" in error_of(notebook)
    read(notebook, f"{web.url}/secret.txt?token=abc")
    assert "access is refused (403)" in error_of(notebook)
    assert "abc" not in error_of(notebook)
    read(notebook, f"{web.url}/late.txt")
    assert "the server says 503; try again later" in error_of(notebook)
    web.put("cut.txt", "the whole of it")
    web.cut.add("cut.txt")
    read(notebook, f"{web.url}/cut.txt")
    assert "cannot reach the server of" in error_of(notebook)
    read(notebook, "http://127.0.0.1:9/x.txt")
    assert "cannot reach the server of http://127.0.0.1:9/x.txt" in error_of(notebook)
    read(notebook, "zip://in.txt::s3://KEY:word-9421@lab/x.zip")
    assert "credentials do not belong in a URL; set AWS_PROFILE" in error_of(notebook)
    assert "word-9421" not in error_of(notebook)
    read(notebook, "nosuch://x/y.txt")
    assert "nosuch" in error_of(notebook)
    with pytest.raises(ChannelError, match=r"no file matches http://127\.0"):
        notebook.cell(f"%channel src = from_path('{web.url}/*.nothing')")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server."""
    with s3_server() as url:
        yield url


def test_objects_of_s3_count_by_content_alone_in_folders_and_by_globs(
    notebook: Notebook, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": s3, "AWS_ACCESS_KEY_ID": "key-5151", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_SECRET_ACCESS_KEY": "secret-6161",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs = pytest.importorskip("s3fs")
    bucket = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    bucket.mkdir("lab")
    for name in ("a", "b"):
        bucket.pipe_file(f"lab/reads/{name}.txt", name.encode())
    notebook.cell("%channel src = from_path('s3://lab/reads/*.txt')")
    notebook.cell("%channel whole = value(path('s3://lab/reads'))")
    notebook.cell(f"%%process one(f: path) -> text from src\n{ONE}")
    notebook.cell(f"%%process every(f: path) -> names from whole\n{EVERY}")

    run = notebook.run()
    assert (list(run["one"]), run["every"].value) == (["a", "b"], ["a.txt", "b.txt"])
    assert notebook.run().counts() == {"cached": 3}

    bucket.pipe_file("lab/reads/b.txt", b"B")
    run = notebook.run()
    assert run.counts() == {"cached": 1, "completed": 2}
    assert "folder reads (input f) changed" in run.reasons["every"]
    bucket.pipe_file("lab/reads/c.txt", b"c")
    run = notebook.run()
    assert (list(run["one"]), run.counts()) == (["a", "B", "c"], {"cached": 2, "completed": 2})
    bucket.mv("lab/reads/c.txt", "lab/reads/d.txt")
    assert notebook.run()["every"].value == ["a.txt", "b.txt", "d.txt"]

    read(notebook, "s3://lab/none.txt")
    assert "no file s3://lab/none.txt" in error_of(notebook)
    read(notebook, "s3://nobucket/none.txt")
    assert "s3://nobucket/none.txt" in error_of(notebook)
    notebook.names["source"] = "s3://key-5151:secret/6161@lab/reads/a.txt"
    notebook.cell("%channel src = value(path(source))")
    assert "s3://…@lab/reads/a.txt: credentials do not belong in a URL" in error_of(notebook)
    kept = everything_kept(notebook.folder / "cache")
    assert b"key-5151" not in kept
    assert b"secret-6161" not in kept
    assert b"secret/6161" not in kept


ONE = "text = f.read_text()"
EVERY = "names = sorted(each.name for each in f.iterdir())"


def test_a_scheme_whose_package_is_missing_names_what_to_install() -> None:
    schemes = {"gs": ("gcsfs", "nbcache[gcs]"), "abfs": ("adlfs", "nbcache[azure]")}
    for scheme, (module, package) in {**schemes, "x9": ("x9", "x9")}.items():
        if importlib.util.find_spec(module) is not None:
            continue
        with pytest.raises(ChannelError) as caught:
            matching(f"{scheme}://bucket/*.txt")
        assert package in str(caught.value)


def test_what_a_kernel_holds_in_memory_reaches_its_tasks(notebook: Notebook) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/there/x.txt", b"one")
    memory.pipe_file("/tree/a/b.txt", b"two")
    read(notebook, "memory://there/x.txt")
    assert notebook.run()["work"].value == "one"
    memory.pipe_file("/there/x.txt", b"two")
    assert notebook.run()["work"].value == "two"

    notebook.cell("%channel tree = value(path('memory://tree'))")
    notebook.cell("%%process below(f: path) -> text from tree\ntext = (f / 'a/b.txt').read_text()")
    assert notebook.run("below")["below"].value == "two"
    assert notebook.run("below").counts() == {"cached": 1}

    read(notebook, "memory://there/none.txt")
    assert "gone with the kernel that wrote it" in error_of(notebook)
