"""Names of the notebook that code reads through a text: `eval`, `globals()["x"]`, queries.

Best effort, by the texts that stand in the code: `eval` and `exec` take Python, `globals()`,
`locals()` and `vars()` a name or a template with fields, pandas' `query` and `eval` write `@name`,
and DuckDB and polars look up what a query says behind FROM and JOIN. A text that is put together
when the code runs is not seen.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator

_RUN_TEXT = frozenset({"eval", "exec"})
_BY_NAME = frozenset({"globals", "locals", "vars"})
_EXPRESSIONS = frozenset({"query", "eval"})
_QUERIES = frozenset({"sql", "query", "execute", "executemany", "SQLContext"})
_AT = re.compile(r"@([A-Za-z_]\w*)")
_DOLLAR = re.compile(r"\$\{?([^\W\d]\w*)")
_FIELD = re.compile(r"(?:\{|%\()([A-Za-z_]\w*)")
_IS_QUERY = re.compile(
    r"\s*(?:select|with|from|create|insert|copy|describe|summarize|pivot|unpivot)\b", re.IGNORECASE
)
_TABLE = re.compile(r"\b(?:from|join)\s+([A-Za-z_]\w*)", re.IGNORECASE)


def names_in_texts(
    texts: Collection[str], builtins: Collection[str], attributes: Collection[str]
) -> Iterator[str]:
    """Yield the names that code may look up through its texts.

    `builtins` are the global names that it reads, `attributes` all attributes (and names) that it
    mentions.
    """
    runs = not _RUN_TEXT.isdisjoint(builtins)
    by_name = not _BY_NAME.isdisjoint(builtins)
    expressions = not _EXPRESSIONS.isdisjoint(attributes)
    queries = not _QUERIES.isdisjoint(attributes)
    if not (runs or by_name or expressions or queries):
        return
    for text in texts:
        if not text.strip("_ "):  # joins words; as a name it is only what a notebook showed last
            continue
        if by_name:
            yield from [text] if text.isidentifier() else _FIELD.findall(text)
        if runs:
            yield from names_in_code(text)
        if expressions and "@" in text:
            yield from _AT.findall(text)
        if queries and _IS_QUERY.match(text):
            yield from _TABLE.findall(text)


def names_in_code(text: str) -> Iterator[str]:
    """Yield the names that a text reads where it is run as Python; none where it cannot be."""
    try:
        tree = ast.parse(text.strip())
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id


def names_told(text: str) -> Iterator[str]:
    """Yield the names of a text that something may run, or fill in, with all names at hand."""
    yield from names_in_code(text)
    yield from _DOLLAR.findall(text)
