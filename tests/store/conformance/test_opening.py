"""From a URL to a store, and the ways in which that cannot go."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nbcache.errors import (
    AccessDeniedError,
    CannotKeepError,
    CannotOpenStoreError,
    ObjectMissingError,
    RemoteStoreError,
    StoreForkedError,
    StoreGoneError,
    StoreUnavailableError,
)
from nbcache.store.remote import folder, opening
from nbcache.store.remote.opening import Backend, open_store
from nbcache.store.remote.probing import creates_once
from nbcache.store.remote.protocol import Store, create_owned
from tests.servers import azure as azure_servers
from tests.servers import s3 as s3_servers
from tests.servers.proxy import Proxy, Refuse
from tests.store.conformance.places import Place


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/x", "ftp:// is no kind of store"),
        ("s3://", "it names no bucket"),
        ("s3:///x", "it names no bucket"),
        ("s3://bucket/a/../b", "is no key"),
        ("file://server/share", "a file URL names no host"),
        ("s3://key:secret@bucket/x", "credentials do not belong in a URL"),
        ("s3://key:a/secret@bucket/x", "credentials do not belong in a URL"),
        ("s3://key:1234/secret@bucket/x", "credentials do not belong in a URL"),
        ("s3://key:secret/bucket", "credentials do not belong in a URL"),
        ("gs://key:a?b/secret@bucket/x", "credentials do not belong in a URL"),
        ("az://container/x?sv=1&sig=secret@", "credentials do not belong in a URL"),
        ("https://me:secret@host/x?sig=secret@", "https:// is no kind of store"),
        ("s3://[x/y", "Invalid IPv6 URL"),
    ],
)
def test_a_url_that_names_no_store_is_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(CannotOpenStoreError, match=said) as caught:
        open_store(url)

    assert "secret" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_question_mark_in_a_name_is_nothing_secret() -> None:
    assert open_store("s3://bucket/what?/x").url == "s3://bucket/what?/x"


@pytest.mark.parametrize("extra", ["s3", "gcs", "azure"])
def test_a_client_that_is_missing_is_named_with_what_installs_it(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_is_installed", lambda module: False)
    scheme = {"s3": "s3", "gcs": "gs", "azure": "az"}[extra]

    with pytest.raises(CannotOpenStoreError) as caught:
        open_store(f"{scheme}://bucket/x")

    assert f"pip install 'nbcache[{extra}]'" in str(caught.value)


@pytest.mark.parametrize("backend", ["fsspec", "obstore"])
def test_without_credentials_the_store_says_so(
    backend: str, s3: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))

    with pytest.raises(AccessDeniedError, match=r"[Cc]redentials"):
        s3.fresh().open(backend=backend).get("key")


@pytest.mark.parametrize("backend", ["fsspec", "obstore"])
def test_a_url_of_azure_without_an_account_says_what_names_it(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in os.environ if each.startswith("AZURE_")]:
        monkeypatch.delenv(name)

    with pytest.raises(AccessDeniedError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("az://container/x", backend=backend).get("key")


@pytest.mark.parametrize("backend", ["fsspec", "obstore"])
def test_a_shared_access_signature_is_enough_and_what_it_does_not_give_is_denied(
    backend: str, azure: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    signature = generate_container_sas(
        azure_servers.ACCOUNT,
        "container",
        account_key=azure_servers.KEY,
        permission=ContainerSasPermissions(read=True, write=True, list=True),
        expiry=datetime.now(UTC) + timedelta(days=1),
    )
    string = f"BlobEndpoint={azure.options['endpoint']};SharedAccessSignature={signature}"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", string)  # as Azure's portal gives it
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.delenv(name)
    store = azure.fresh().open(backend=backend)

    store.put("key", b"data")

    assert [store.get(each.key) for each in store.list()] == [b"data"]
    with pytest.raises(AccessDeniedError):
        store.delete(["key"])


@pytest.mark.parametrize("backend", ["fsspec", "obstore"])
def test_credentials_come_from_a_profile(
    backend: str, s3: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(
        "[team]\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    place = s3.fresh()

    place.open(backend=backend).put("key", b"data")

    assert place.open(backend=backend).get("key") == b"data"


@pytest.mark.parametrize("backend", ["fsspec", "obstore"])
def test_credentials_that_were_renewed_are_found_while_the_store_is_open(
    backend: str, s3: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    profile = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.setattr("nbcache.store.remote.cloud.RENEW_S", 0.0)
    expired = Refuse(400, b"<Error><Code>ExpiredToken</Code><Message>no</Message></Error>")
    valid = "old"
    profile.write_text("[default]\naws_access_key_id = old\naws_secret_access_key = b\n")

    with closing(Proxy(s3.options["endpoint"])) as proxy:
        store = s3.fresh().open(backend=backend, endpoint=proxy.url)
        with proxy.when(lambda each: None if f"={valid}/" in each.who else expired):
            store.put("key", b"data")
            valid = "new"
            for _ in range(2):
                with pytest.raises(AccessDeniedError):
                    store.get("key")
            profile.write_text("[default]\naws_access_key_id = new\naws_secret_access_key = b\n")
            assert store.get("key") == b"data"
        store.close()


def test_one_folder_has_three_ways_to_write_it(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        stores = [open_store(tmp_path), open_store(tmp_path.as_uri()), open_store("~")]

    assert {store.url for store in stores} == {tmp_path.as_uri()}
    stores[0].put("a key", b"x")
    assert stores[1].get("a key") == b"x"


def test_a_folder_that_is_not_there_is_never_made(tmp_path: Path) -> None:
    store = open_store(tmp_path / "gone")

    for ask in (
        lambda: store.put("key", b""),
        lambda: store.put_if_absent("key", b""),
        lambda: store.get("key"),
        lambda: store.head("key"),
        lambda: list(store.list()),
        store.server_time,
    ):
        with pytest.raises(StoreGoneError, match="the folder is not there"):
            ask()
    assert not (tmp_path / "gone").exists()


def test_a_folder_where_nothing_is_mounted_any_more_is_no_empty_store(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    store = open_store(tmp_path / "team")
    store.put("key", b"x")
    assert store.get("key") == b"x"
    (tmp_path / "team").rename(tmp_path / "away")
    (tmp_path / "team").mkdir()

    for ask in (
        lambda: store.put("key", b""),
        lambda: store.put_if_absent("key", b""),
        lambda: store.get("key"),
        lambda: list(store.list("log/")),
    ):
        with pytest.raises(StoreGoneError, match="the folder is not there"):
            ask()
    assert not list((tmp_path / "team").iterdir())


def test_a_folder_that_does_not_answer_is_no_endless_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key")  # whoever opens it waits
    store = open_store(tmp_path, lookup_s=0.01)

    with pytest.raises(StoreUnavailableError, match=r"no answer in .* seconds"):
        store.get("key")

    with open(tmp_path / "key", "wb"):
        pass  # let that go on, and end


@pytest.mark.parametrize("has_links", [True, False])
def test_a_name_that_is_taken_is_told_from_a_folder_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        """As over sshfs, with and without its hard links."""
        if not has_links or target.exists():
            raise PermissionError(errno.EPERM, "Operation not permitted")
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    store = open_store(tmp_path)

    assert creates_once(store) == has_links
    assert store.atomic_create == has_links
    assert create_owned(store, "claim", b"one") is None
    assert create_owned(store, "claim", b"two") == b"one"


def test_a_name_in_a_folder_that_takes_no_links_is_refused_and_not_said_to_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        """As a folder does that belongs to another project of an XFS, or has all that it holds."""
        if target.parent.name == "full":
            raise OSError(errno.EMLINK, "Too many links")
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    store = open_store(tmp_path)

    with pytest.raises(RemoteStoreError, match="Too many links"):
        store.put_if_absent("full/claim", b"one")
    assert store.put_if_absent("other/claim", b"one")
    assert store.atomic_create
    assert [entry.key for entry in store.list()] == ["other/claim"]


@pytest.mark.parametrize(("rights", "of_files"), [(0o3775, 0o644), (0o2770, 0o640), (0o700, 0o600)])
def test_who_may_use_a_folder_may_use_all_that_is_made_in_it(
    tmp_path: Path, rights: int, of_files: int
) -> None:
    root, source = tmp_path / "team", tmp_path / "source"
    root.mkdir()
    root.chmod(rights)
    store = open_store(root)
    before = os.umask(0o077)
    try:
        source.write_bytes(b"x")
        store.put("log/one", b"x")
        store.put_if_absent("claims/ab/two", b"x")
        store.put_file("blobs/week/ab/three", source)
    finally:
        os.umask(before)

    found = list(root.rglob("*"))
    assert len(found) == 10
    assert {stat.S_IMODE(each.stat().st_mode) for each in found if each.is_dir()} == {
        rights & ~stat.S_ISVTX  # who cleans deletes what others have made
    }
    assert {stat.S_IMODE(each.stat().st_mode) for each in found if each.is_file()} == {of_files}


def test_what_others_keep_in_a_folder_is_no_object(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put("ours/key", b"x")
    (tmp_path / "tmp" / "being written").write_bytes(b"x")
    (tmp_path / "back\\slash").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")

    assert [entry.key for entry in store.list()] == ["ours/key"]


def test_a_long_folder_is_listed_in_pieces_of_what_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    keys = ["a", "a.b", "a/x", "b/c/1", "b/c/2", "b/d", "b1", "c"]
    for key in keys[3:]:
        store.put(key, b"x")
    store.put("a.b", b"x")
    store.put("a/x", b"x")
    looked_at: list[int] = []
    real = folder._looked_at

    def looking(prefix: str, found: Sequence[os.DirEntry[str]]) -> object:
        looked_at.append(len(found))
        return real(prefix, found)

    monkeypatch.setattr(folder, "_looked_at", looking)
    monkeypatch.setattr(folder, "_LOOKED_AT_ONCE", 2)

    assert [each.key for each in store.list()] == keys[1:]
    assert max(looked_at) == 2
    for after in (*keys, "", "b", "b/", "b/c", "b/c/", "b/c/1/", "z"):
        expected = [key for key in keys[1:] if key > after]
        assert [each.key for each in store.list(start_after=after)] == expected, after
    looked_at.clear()
    assert [each.key for each in store.list("b/", "b/c/2")] == ["b/d"]
    assert looked_at == [2]


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put("key", b"x")

    def limited() -> None:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    program = (
        "import sys\n"
        "from nbcache.store.remote.opening import open_store\n"
        "try: open_store(sys.argv[1]).put('key', b'y' * 5000)\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        preexec_fn=limited,
        check=True,
    )

    assert done.stdout.strip() == CannotKeepError.__name__
    assert store.get("key") == b"x"
    assert os.listdir(tmp_path / "tmp") == []


def in_a_fork(act: Callable[[], object]) -> str:
    """Return what a forked child has to say: the name of its error, or its result."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = repr(act())
        except BaseException as error:
            said = type(error).__name__
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    return said


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("backend", ["fsspec", "obstore"])
def test_a_store_belongs_to_the_process_that_opened_it(s3: Place, backend: str) -> None:
    place = s3.fresh()
    store: Store = place.open(backend=backend)
    store.put("key", b"data")

    assert in_a_fork(lambda: store.get("key")) == StoreForkedError.__name__
    assert in_a_fork(lambda: place.open().backend) == "'s3 through s3fs'"
    assert in_a_fork(lambda: place.open().get("key")) == "b'data'"
    assert store.get("key") == b"data"


def test_a_process_that_ends_with_a_store_open_says_nothing(azure: Place) -> None:
    program = (
        "import json, sys\n"
        "from nbcache.store.remote.opening import open_store\n"
        "store = open_store(sys.argv[1], lookup_s=60, **json.loads(sys.argv[2]))\n"
        "store.put('key', b'data')"
    )
    options = json.dumps({**azure.options, "backend": "fsspec"})

    done = subprocess.run(
        [sys.executable, "-c", program, azure.fresh().url, options], capture_output=True, text=True
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_bucket_may_be_called_as_servers_say_that_there_is_none(s3: Place) -> None:
    s3_servers.make_bucket(s3.options["endpoint"], "nosuchbucket")

    for backend in ("fsspec", "obstore"):
        store = open_store("s3://nosuchbucket", backend=backend, **s3.options)
        with pytest.raises(ObjectMissingError):
            store.get("NoSuchBucket")
        with pytest.raises(ObjectMissingError):
            store.head("NoSuchBucket")


def test_importing_the_stores_imports_no_client() -> None:
    program = (
        "import sys, nbcache.store.remote.opening, nbcache.store.remote.leases\n"
        "print([n for n in ('obstore', 's3fs', 'gcsfs', 'adlfs', 'aiohttp', 'fsspec', 'azure')\n"
        "       if n in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.strip() == "[]"


def test_an_error_of_a_store_is_told_in_one_line_and_survives_pickling() -> None:
    error = AccessDeniedError("s3://bucket/x", "read", "blobs/ab", "no (AccessDenied)")

    again = pickle.loads(pickle.dumps(error))

    assert str(again) == str(error)
    assert str(error).startswith("s3://bucket/x: cannot read 'blobs/ab': no (AccessDenied)\n")
    missing = ObjectMissingError("s3://bucket/x", "read", "blobs/ab", "there is no such object")
    assert str(missing).startswith("s3://bucket/x: cannot read 'blobs/ab'")
