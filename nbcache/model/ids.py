"""Identifiers: sortable unique ids, run names, positions. Clock and randomness come as arguments.

A ULID is 48 bits of milliseconds and 80 bits of randomness in Crockford's base 32: 26 characters
that sort by time. Source: the ULID specification (github.com/ulid/spec).
"""

from __future__ import annotations

import re
from typing import NewType

RunId = NewType("RunId", str)  # a ULID

Position = tuple[int, ...]
"""Where an item stands in its channel: a path in the channel's tree, () for a value channel."""

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]


def make_ulid(unix_ms: int, entropy: bytes) -> str:
    """Return a 26-character ULID from milliseconds since 1970 and 10 random bytes."""
    if len(entropy) != 10:
        raise ValueError("a ULID takes 10 bytes of entropy")
    first, second = int.from_bytes(entropy[:5], "big"), int.from_bytes(entropy[5:], "big")
    return _PAIRS[unix_ms >> 40 & 255] + _eight(unix_ms) + _eight(first) + _eight(second)


def _eight(number: int) -> str:
    """Return the last 40 bits of a number in base 32. Every row has an id: it has to be quick."""
    return (
        f"{_PAIRS[number >> 30 & 1023]}{_PAIRS[number >> 20 & 1023]}"
        f"{_PAIRS[number >> 10 & 1023]}{_PAIRS[number & 1023]}"
    )


def is_ulid(text: str) -> bool:
    """Whether a text has the form of an id that `make_ulid` makes."""
    return re.fullmatch(f"[0-7][{_CROCKFORD}]{{25}}", text) is not None


def ulid_ms(ulid: str) -> int:
    """Return the milliseconds since 1970 at which a ULID was made."""
    number = 0
    for character in ulid[:10]:
        number = number * 32 + _CROCKFORD.index(character)
    return number


def format_position(position: Position) -> str:
    """Return a position as people write it: "3", "0.2", or "" for a value channel."""
    return ".".join(map(str, position))


def parse_position(text: str) -> Position:
    """Return the position that `format_position` gave as `text`."""
    return tuple(int(part) for part in text.split(".")) if text else ()


_ADJECTIVES = (
    "able bold brave brisk bright calm clever cosy crisp curious deft eager early easy exact fair "
    "fancy fast fine firm fond frank free fresh gentle glad golden good grand happy hardy honest "
    "humble jolly keen kind lively loyal lucky mellow merry mild neat nimble noble patient plucky "
    "polite proud quick quiet rapid ready shiny smart solid spry steady sunny swift tidy true warm"
).split()
_ANIMALS = (
    "ant badger bat bear beaver bee bison boar camel cat cicada cobra crab crane crow deer dingo "
    "dove duck eagle eel egret elk falcon ferret finch fox frog gecko goat goose gull hare hawk "
    "heron horse ibex ibis jay koala lark lemur lion lizard llama lynx mole moose moth mouse newt "
    "okapi orca otter owl panda pika puffin quail rabbit raven robin salmon seal shrew"
).split()


def run_name(run: RunId) -> str:
    """Return a name people can say, such as "calm-otter", from the random part of a run's id."""
    number = 0
    for character in run[10:]:
        number = number * 32 + _CROCKFORD.find(character)
    animal = _ANIMALS[number % len(_ANIMALS)]
    return f"{_ADJECTIVES[number // len(_ANIMALS) % len(_ADJECTIVES)]}-{animal}"
