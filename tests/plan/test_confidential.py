"""Which names look as if they held a secret, and what then is not said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pytest

from nbcache.model.digest import Digest
from nbcache.model.value import Stored
from nbcache.plan.identity.canonical import summarise
from nbcache.plan.identity.confidential import (
    HIDDEN,
    confidential_texts,
    is_confidential,
    is_hidden,
    know_secrets,
    looks_secret,
    secrets_in,
)


@pytest.mark.parametrize(
    "name",
    "password DB_PASSWORD dbPassword api_token token AWS_SECRET_ACCESS_KEY apiKey "
    "api_key private_key "
    "client_secret credentials Authorization GITHUB_TOKEN OPENAI_API_KEY storageAccountKey".split(),
)
def test_names_of_secrets_are_seen(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name", "tokens n_tokens tokenizer sort_key key keys PWD OLDPWD author secretary x".split()
)
def test_other_names_are_not(name: str) -> None:
    assert not looks_secret(name)


def test_numbers_are_no_secrets_and_members_of_dicts_are() -> None:
    assert not is_confidential("max_token", 512)
    assert not is_confidential("config", {"host": "h", "retries": 3})
    assert is_confidential("config", {"db": {"password": "hunter2"}})
    assert is_confidential("rows", [{"token": "abcdef"}])
    assert is_confidential("rows", [("user", "me"), ("password", "abcdef")])
    assert not is_confidential("rows", [("user", "me"), ("max_token", 3)])


def test_a_password_in_a_url_is_a_secret_whatever_its_name() -> None:
    url = "postgresql://me:hunter2@db:5432/x?a=b@c"
    assert is_confidential("source", url)
    assert is_confidential("sources", {"db": ["https://a.org/b", url]})
    assert confidential_texts({"source": f"see {url}"}) == ("hunter2@db:5432/x?a=b", "hunter2")
    assert is_confidential("source", url.encode())


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("postgresql://me:wo/rd-22@db", ["wo/rd-22"]),
        ("postgresql://me:wo/rd-22@db?a=b@c", ["wo/rd-22", "wo/rd-22@db?a=b"]),
        ("postgresql://me:wo@rd-22@db", ["wo", "wo@rd-22"]),
        ("postgresql://me:wo@rd?22@db", ["wo", "wo@rd?22"]),
        ("postgresql://me:@db/x", []),
        ("git://me:word@host/x", ["word"]),
        ("file://me:word@host/x", ["word"]),
        ("mysql+pymysql://me:12wo?r#d@db/x", ["12wo?r#d"]),
        ("sftp://me@firm.org:wo/rd@host/x", ["wo/rd"]),
        ("ftp://me:SECRET::x@host/y", ["SECRET::x"]),
        ("simplecache::ftp://me:word@host/y::ftp://me:2nd/1@host", ["word", "2nd/1"]),
        ("s3://KEY:wo/rd@lab/x.fq", ["wo/rd"]),
        ("ssh://git:word@github.com/org/tool", ["word"]),
        ("s3://KEY:/ab+c@lab/x", ["/ab+c"]),
        ("s3://KEY:4/abc@lab/x", ["4/abc"]),
        ("mongodb+srv://u:p@ss/word@h", ["p", "p@ss/word"]),
        ("https://me@a.org:80/b:c@d", []),
        ("http://localhost:8888/@scope/x", []),
        ("http://localhost:8888?at=a@b.org", []),
        ("http://{host}:{port}/x@y", []),
        ("http://$HOST:$PORT/x@y", []),
        ("http://[::1]:80/x@y", []),
        ("http://[::1]/x@y", []),
        ("file://C:/data/a@b.csv", []),
        ("zip://a:b/c@d.txt::s3://lab/x.zip", []),
        ("s3://arn:aws:s3:eu-west-1:12:accesspoint/x@2", []),
        ("ssh://github.com:org/tool@v1", []),
        ("github://pandas-dev:pandas@main/README.md", []),
        ("s3://arn:aws:s3:eu-west-1:1234:accesspoint@x", []),
        ("git+ssh://git@github.com:org/tool@v1", []),
        ("https://host/a:b@c", []),
    ],
)
def test_what_stands_for_a_password_is_known_though_it_was_not_escaped_and_no_port_is_one(
    url: str, secrets: list[str]
) -> None:
    assert secrets_in(f"see {url}, or ask me@lab.org") == secrets
    assert secrets_in(f"it says '{url}'") == secrets


@pytest.mark.parametrize("mark", "'\"<>")
def test_a_quote_in_a_password_does_not_end_it(mark: str) -> None:
    assert secrets_in(f"postgresql://me:pa{mark}ss@db/x") == [f"pa{mark}ss"]


@pytest.mark.parametrize(
    "text",
    [
        '{"db":"postgresql://me:hunter2@db","mail":"a@b.c"}',
        '<a href="ftp://me:hunter2@host">me@lab.org</a>',
        "['postgresql://me:hunter2@db','me@lab.org']",
        "url=postgresql://me:hunter2@db;mail=a@b.c",
        "postgresql://me:hunter2@db|a@b@c@d@e@f@g",
        "postgresql://me:hunter2@db,postgresql://me:hunter2@other",
        "1://me:hunter2@db",
    ],
)
def test_a_password_is_known_without_the_text_behind_its_url(text: str) -> None:
    assert "hunter2" in secrets_in(text)


def test_secrets_are_found_in_linear_time_in_whatever_text() -> None:
    for text in ("a://", "a://b:", "?a", "a" * 9, "://b:c/", "&key=" + "%2" * 9):
        assert secrets_in(f"x://{text * 100_000}") == []


@pytest.mark.parametrize(
    ("query", "secrets"),
    [
        ("?token=hunter-22", ["hunter-22"]),
        ("?page=2&api_key=hunter-22#top", ["hunter-22"]),
        ("?sv=2026-01-01&sig=hunter-22%3D", ["hunter-22%3D"]),
        ("?auth=hunter-22-is-my-password", ["hunter-22-is-my-password"]),
        ("?auth=required&code=EUR-2026&author=somebody", []),
        ("?code=import%20pandas%20as%20pd", []),
        ("?key=AIza-hunter-22+hunter/22", ["AIza-hunter-22+hunter/22"]),
        ("#access_token=hunter-22&expires_in=360000", ["hunter-22"]),
        ("?code=4%2F0AbUR2VM-hunter-22&state=abcdef", ["4%2F0AbUR2VM-hunter-22"]),
        ("?X-Amz-Expires=36000000&X-Amz-Credential=AKIA-me&X-Amz-Signature=hunter-22",
         ["AKIA-me", "hunter-22"]),
        ("?tokens=30000000&sort_key=surname&q=secret+sauce&page=200000", []),
    ],
)  # fmt: skip
def test_tokens_and_signatures_in_the_query_of_a_url_are_secrets_whatever_its_name(
    query: str, secrets: list[str]
) -> None:
    assert secrets_in(f"see 'https://host/x.csv{query}', it says") == secrets
    assert is_confidential("source", f"https://host/x.csv{query}") == bool(secrets)


@pytest.mark.parametrize(
    "text",
    [
        "http://host: GET /x?token=hunter-22",
        "http://host?to=http://other?token=hunter-22",
        "http://host#access_token=abc?token=hunter-22",
    ],
)
def test_a_token_is_known_in_a_query_that_stands_by_itself_or_in_another(text: str) -> None:
    assert "hunter-22" in secrets_in(text)


def test_what_a_secret_variable_holds_is_a_secret_in_any_text_until_it_is_set_no_more() -> None:
    know_secrets({"API_PASSWORD": "open sesame", "TOKEN": "short", "USER": "a person"})
    try:
        assert is_confidential("mine", "say open sesame")
        assert is_confidential("mine", [b"open sesame"])
        assert is_hidden("mine", "open sesame")
        assert summarise(["open sesame", 1]) == "list of 2"
        assert summarise("say open sesame") == HIDDEN
        assert not is_confidential("mine", "a person, short")
        assert confidential_texts({}) == ("open sesame",)
    finally:
        know_secrets({})
    assert not is_confidential("mine", "say open sesame")


def test_attributes_that_look_secret_are_hidden_where_they_are_shown() -> None:
    class Inner(NamedTuple):
        token: str

    @dataclass(slots=True)
    class Outer:
        password: str
        inner: Inner

    values = {"config": Outer("first one", Inner("second"))}
    assert confidential_texts(values) == ("first one", "second")
    assert not is_confidential("config", values["config"]), "it is told by its parts"


def test_results_of_tasks_are_secrets_by_their_names_as_values_are() -> None:
    for text, is_secret in ((b'"abcdef"', True), (b"512", False)):
        made = Stored(Digest("xxh3:1"), "value", "json", len(text), inline=text)
        assert is_confidential("token", made) == is_secret


def test_texts_to_be_hidden_come_longest_first_and_short_ones_not_at_all() -> None:
    values = {
        "token": "abcdef",
        "secret": ["abcdefgh", "abc"],
        "password": b"bytes!",
        "x": "visible",
    }

    assert confidential_texts(values) == ("abcdefgh", "abcdef", "bytes!")


def test_a_private_slot_is_looked_into() -> None:
    class _Client:
        __slots__ = ("__token",)

        def __init__(self) -> None:
            self.__token = "abcdefgh"

    assert confidential_texts({"client": _Client()}) == ("abcdefgh",)


def test_a_property_that_fails_is_no_attribute() -> None:
    class Base:
        __slots__ = ("token",)

    class Lazy(Base):
        __slots__ = ()

        @property
        def token(self) -> str:
            raise ValueError("computed lazily")

    assert confidential_texts({"config": Lazy()}) == ()
