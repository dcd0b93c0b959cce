"""`%load_ext nbcache`: hang magics, input transformer, completion and displays into a shell.

Silent and idempotent: loading again, after `%reload_ext` too, leaves one of each. What is hung in
is found again through the `Front` kept on the shell, so unloading takes out exactly that.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

from nbcache.notebook import cards
from nbcache.notebook import progress as pictures
from nbcache.notebook.cached import CachedCells
from nbcache.notebook.front import Front
from nbcache.notebook.render import Rendered
from nbcache.notebook.transform import for_completeness, transform

_ATTRIBUTE, _CACHED = "_nbcache_front", "_nbcache_cached"
_TRANSFORMERS = (transform, for_completeness)
_DISPLAYED = (
    ("nbcache.engine.declared.process", "Process"),
    ("nbcache.engine.declared.process", "NamedChannel"),
    ("nbcache.engine.running.run", "Run"),
)


def load(shell: Any) -> None:
    """Make the magics available in this shell; does nothing where they already are."""
    front: Front | None = getattr(shell, _ATTRIBUTE, None)
    if front is not None and front.is_loaded:
        return
    from nbcache.notebook.magics import NbcacheMagics

    front = front or Front.for_shell(shell)
    front.is_loaded = True
    setattr(shell, _ATTRIBUTE, front)
    shell.register_magics(NbcacheMagics(front))
    shell.input_transformers_cleanup[:0] = _TRANSFORMERS  # before IPython drops blank lines
    shell.ast_transformers.append(BareRun())
    cells = CachedCells(front)
    setattr(shell, _CACHED, cells)
    cells.install()
    shell.events.register("pre_run_cell", front.before_cell)
    _install_completion(shell)
    _install_displays(shell, front)


def leave(shell: Any, *, cancelled: bool, hurried: bool = False) -> None:
    """Do what a kernel's end wants (`Front.leave`), also where a cell unloaded nbcache."""
    getattr(shell, _ATTRIBUTE).leave(cancelled=cancelled, hurried=hurried)


def unload(shell: Any) -> None:
    """Take out what `load` hung in; the session, its results and its detached runs stay."""
    front: Front | None = getattr(shell, _ATTRIBUTE, None)
    if front is None or not front.is_loaded:
        return
    for kind, names in (("line", ("channel", "nbcache", "nbsql")), ("cell", _CELL_MAGICS)):
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    shell.input_transformers_cleanup[:] = [
        each for each in shell.input_transformers_cleanup if each not in _TRANSFORMERS
    ]
    shell.ast_transformers[:] = [
        each for each in shell.ast_transformers if not isinstance(each, BareRun)
    ]
    getattr(shell, _CACHED).uninstall()
    delattr(shell, _CACHED)
    shell.events.unregister("pre_run_cell", front.before_cell)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [
        each for each in matchers if getattr(each, "matcher_identifier", None) != _COMPLETER
    ]
    for module, name in _DISPLAYED:
        for mime in ("text/plain", "text/html"):
            shell.display_formatter.formatters[mime].pop(f"{module}.{name}", None)
    front.is_loaded = False


_CELL_MAGICS = ("process", "channel", "nbsql", "cached")


_SHOWN_ONCE = ("run", "resume", "relaunch", "restore")


class BareRun(ast.NodeTransformer):
    """A `%nbcache run` that stands alone shows its run once: not again as Out[].

    `run = %nbcache run` still gets the run. The statement is put inside `if True:`, which IPython
    runs and does not display.
    """

    def visit_Module(self, node: ast.Module) -> ast.Module:  # ast's own name
        node.body = [
            ast.copy_location(ast.If(ast.Constant(True), [each], []), each)
            if _is_bare_run(each)
            else each
            for each in node.body
        ]
        return ast.fix_missing_locations(node)


def _is_bare_run(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(attr="run_line_magic"),
                args=[ast.Constant(value="nbcache"), ast.Constant(value=str(line)), *_],
            )
        ):
            return line.split(maxsplit=1)[:1] in ([verb] for verb in _SHOWN_ONCE)
    return False


def _install_displays(shell: Any, front: Front) -> None:
    def card(process: Any) -> Rendered:
        return cards.render_card(front.session.card(process))

    def channel(named: Any) -> Rendered:
        return cards.render_channel(front.session.channel_view(named))

    def run(held: Any) -> Rendered:
        return pictures.render_progress(held.progress())

    for (module, name), draw in zip(_DISPLAYED, (card, channel, run), strict=True):
        formatters = shell.display_formatter.formatters
        formatters["text/html"].for_type_by_name(module, name, _html(draw))
        formatters["text/plain"].for_type_by_name(module, name, _text(draw))


def _html(draw: Callable[[Any], Rendered]) -> Callable[[Any], str]:
    return lambda value: draw(value).html


def _text(draw: Callable[[Any], Rendered]) -> Callable[[Any, Any, bool], None]:
    def pretty(value: Any, printer: Any, cycle: bool) -> None:
        printer.text("..." if cycle else draw(value).text)

    return pretty


_WORDS = {  # how a line begins -> the function of `completion` that completes it
    "%nbcache": "command_words",
    "%%process": "header_words",
    "%channel": "channel_words",
    "#|": "header_words",
}
_OWN = re.compile(r"(?:^|=)\s*(?P<line>(?P<key>%nbcache|%%process|%channel|#\|).*)$")
_COMPLETER = "nbcache"


def _install_completion(shell: Any) -> None:
    """Hang in what completes nbcache's own lines: there its words stand alone, Python's would be
    noise. What completes is imported at the first Tab."""
    from IPython.core.completer import context_matcher

    namespace = shell.user_ns

    @context_matcher(identifier=_COMPLETER)  # type: ignore[untyped-decorator]
    def complete(context: Any) -> Any:
        from IPython.core.completer import SimpleCompletion

        own = _OWN.search(context.text_until_cursor)
        if own is None:
            return {"completions": []}
        from nbcache.notebook import completion

        found = getattr(completion, _WORDS[own["key"]])(own["line"], namespace)
        return {
            "completions": [SimpleCompletion(text=word) for word in found],
            "matched_fragment": completion.typed_at_end(own["line"]),
            "suppress": bool(found),
        }

    shell.Completer.custom_matchers.append(complete)
