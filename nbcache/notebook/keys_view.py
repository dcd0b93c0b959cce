"""`nbcache keys`: whom this user trusts, and with what key own rows are signed.

A notebook may look. To make, trust and revoke takes a shell: what a notebook can say, a notebook
that somebody sent can say, and trust is what protects from it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nbcache.errors import UsageError
from nbcache.model.signature import KEY_PREFIX, is_key
from nbcache.notebook import render
from nbcache.notebook.answer import Answer, answer, moment
from nbcache.notebook.verb import Place
from nbcache.notebook.verbs import Parsed
from nbcache.store.cache import take_over
from nbcache.store.signing import OwnKey, make_key, read_key
from nbcache.store.trust_file import TrustedKey, config_folder, read_trust, trust_key


def keys_answer(parsed: Parsed, place: Place) -> Answer:
    """Answer `keys`.

    Raises:
        UsageError: unknown words, or ones that only a shell takes. StoreError: a file of the
            user's settings cannot be read or written.
    """
    what, *words = parsed.words or ("list",)
    looks = {"list": _list, "show": _show}
    changes = {"make": _make, "trust": _trust, "revoke": _revoke}
    if what in looks:
        if words:
            raise UsageError(f"`keys {what}` takes no words")
        return looks[what]()
    if what not in changes:
        raise UsageError(f"keys {what}: there are {', '.join((*looks, *changes))}")
    if place == "notebook" or "JPY_PARENT_PID" in os.environ:
        raise UsageError(
            f"`keys {what}` works in a shell only: whom you trust is not for a notebook to say.\n"
            f"  In a terminal: nbcache keys {' '.join(parsed.words)}"
        )
    return changes[what](parsed, words)


def _ask(question: str) -> bool:
    """Ask, and return whether the answer is yes.

    Raises:
        UsageError: nobody sits there.
    """
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked: add --yes, if you are sure")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _list() -> Answer:
    own, trust = read_key(), read_trust()
    keys = sorted(trust.keys.values(), key=lambda each: (each.at, each.key))
    rows = [(each.name, _state(each, own), moment(each.at), each.key) for each in keys]
    said = [render.table(("name", "", "since", "key"), rows)] if rows else []
    if own is None:
        said.append(render.line("you have no key: nbcache keys make, in a shell"))
    caches = render.count_of(len(trust.caches), "cache")
    said.append(render.line(f"{caches} of your own; settings in {config_folder()}", render.FAINT))
    data = {
        "own": None if own is None else own.public,
        "keys": [
            {"key": each.key, "name": each.name, "at": each.at, "revoked": each.revoked}
            for each in keys
        ],
        "caches": sorted(trust.caches),
    }
    return answer(said, data)


def _state(each: TrustedKey, own: OwnKey | None) -> str:
    if each.revoked:
        return "revoked"
    return "yours" if own is not None and each.key == own.public else "trusted"


def _show() -> Answer:
    own = read_key()
    if own is None:
        raise UsageError("you have no key yet: nbcache keys make, in a shell")
    return answer(f"{own.public} {own.name}", {"key": own.public, "name": own.name})


def _make(parsed: Parsed, words: list[str]) -> Answer:
    if words:
        raise UsageError("`keys make` takes no words; a name: --name NAME")
    before = read_key()
    own = make_key(parsed.text("--name") or "")
    said = "this is your key" if before is None else "you have a key already"
    lines = (
        f"{said}: {own.public} {own.name}",
        "results from now on are signed with it; whoever wants to use them: "
        f"nbcache keys trust {own.public} --name {own.name}",
    )
    return answer(map(render.line, lines), {"key": own.public, "name": own.name})


def _trust(parsed: Parsed, words: list[str]) -> Answer:
    if len(words) != 1:
        raise UsageError(f"usage: nbcache keys trust {KEY_PREFIX}... --name WHOSE, or a folder")
    target = words[0]
    if not is_key(target):
        return _take_over(parsed, target)
    name = parsed.text("--name")
    if name is None:
        raise UsageError("say whose key it is: --name WHOSE")
    question = f"Results that {name} signed with {target} may then run code as you. Trust it?"
    _must_agree(parsed, question)
    trust_key(target, name)
    said = f"trusted: results that {name} signed count from now on"
    return answer(said, {"key": target, "name": name, "revoked": False})


def _take_over(parsed: Parsed, target: str) -> Answer:
    folder = Path(target)
    if target.startswith(KEY_PREFIX) or not folder.is_dir():
        raise UsageError(
            f"{target} is neither a key ({KEY_PREFIX} and 64 hex digits) nor the folder of a cache"
        )
    question = f"All that is in {folder.resolve()} may then run code as you. Is it yours?"
    _must_agree(parsed, question)
    cache = take_over(folder)
    return answer(f"{folder} is your own cache from now on", {"cache": cache})


def _must_agree(parsed: Parsed, question: str) -> None:
    if "--yes" not in parsed and not _ask(question):
        raise UsageError("nothing was changed")


def _revoke(parsed: Parsed, words: list[str]) -> Answer:
    trust = read_trust()
    chosen = [
        each
        for each in trust.keys.values()
        if words and (each.name == words[0] or each.key.startswith(words[0]))
    ]
    if len(words) != 1:
        raise UsageError("usage: nbcache keys revoke KEY (its beginning, or its name)")
    if not chosen and not is_key(words[0]):
        raise UsageError(f"you trust no key {words[0]}: nbcache keys list")
    if len(chosen) > 1:
        raise UsageError(
            f"{words[0]} means {len(chosen)} keys: " + ", ".join(k.key for k in chosen)
        )
    key, name = (chosen[0].key, chosen[0].name) if chosen else (words[0], "unknown")
    trust_key(key, name, revoked=True)
    said = f"revoked: results that {name} signed with {key} count no longer"
    return answer(said, {"key": key, "name": name, "revoked": True})
