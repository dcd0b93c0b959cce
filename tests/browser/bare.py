"""The view's module in an empty page, with a model that a test plays: quick, and any run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from playwright.sync_api import Page

from nbcache.model.view import RunProgress
from nbcache.notebook.widget.module import loader, module, style
from nbcache.notebook.widget.scene import Scene
from nbcache.notebook.widget.state import Control, state_of
from nbcache.notebook.widget.view import Page as ViewPage
from nbcache.notebook.widget.view import scene_record

CONTROLS: list[Control] = [
    {"ask": "cancel", "label": "Cancel", "why_not": "", "first": False},
    {"ask": "resume", "label": "Resume", "why_not": "it goes on", "first": True},
    {"ask": "run", "label": "Run again", "why_not": "it goes on", "first": False},
    {"ask": "form", "label": "Relaunch…", "why_not": "it goes on", "first": False},
]

_MOUNT = """async ([esm, css, first, kind]) => {
    const style = document.createElement("style");
    style.textContent = css;
    document.head.append(style);
    const heard = [];
    window.sent = [];
    window.model = {
        get: (name) => ({ first, twin: "twin", page: kind })[name],
        on: (name, listener) => {
            if (name === "msg:custom") heard.push(listener);
            else window.loseKernel = listener;
        },
        off: () => {},
        send: (message) => {
            window.sent.push(message);
            const answer = window.answers?.[message.ask];
            const { id, page } = message;
            if (answer) window.tell({ kind: "answer", id, page, answer });
        },
    };
    window.tell = (message) => heard.forEach((listener) => listener(message));
    const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
    const module = await import(url);
    const place = document.createElement("div");
    document.body.append(place);
    module.default.render({ model: window.model, el: place });
}"""


def whole(scene: Scene, progress: RunProgress, seq: int = 0) -> dict[str, Any]:
    """Return what a page gets first."""
    state = state_of(scene, progress, CONTROLS)
    return {"seq": seq, "scene": scene_record(scene), **state}


def mount(
    page: Page,
    first: Mapping[str, Any],
    *,
    answers: Mapping[str, Any] | None = None,
    kind: ViewPage | None = None,
) -> None:
    """Show a view in an empty page; `answers` are what its questions get, `kind` what it is."""
    page.set_content("<!doctype html><html lang='en'><title>view</title><body></body></html>")
    page.evaluate("(answers) => { window.answers = answers; }", dict(answers or {}))
    page.evaluate(_MOUNT, [module(), style(), json.loads(json.dumps(first)), dict(kind or {})])


def tell(page: Page, message: Mapping[str, Any]) -> None:
    """Send the page a message of the kernel's."""
    page.evaluate("(message) => window.tell(message)", dict(message))


_LOAD = """async ([loader, id, library, first]) => {
    const heard = new Set(), el = document.createElement("div");
    document.body.append(el);
    const model = {
        get: (name) => ({ first, twin: "twin", library: { id, key: "k" } })[name],
        on: (_, listener) => heard.add(listener),
        off: (_, listener) => heard.delete(listener),
        send: ({ ask, page }) => {
            window.asked = ask;
            if (ask === "library" && library)
                heard.forEach((hear) => hear({ kind: "answer", page, answer: library }));
        },
        widget_manager: { get_model: () => Promise.reject(new Error("not here")) },
    };
    const url = URL.createObjectURL(new Blob([loader], { type: "text/javascript" }));
    const { default: output } = await import(url);
    window.ended = "";
    output.render({ model, el }).then(
        () => { window.ended = "drawn"; }, (error) => { window.ended = error.message; });
}"""


def load(page: Page, kernel: str, first: Mapping[str, Any], *, answers: bool) -> None:
    """Begin to show an output of a kernel, which sends the view's module or has ended.

    `window.ended` becomes how it ends, in words.
    """
    library = {"module": module(), "style": style()} if answers else None
    page.evaluate(_LOAD, [loader(), kernel, library, json.loads(json.dumps(first))])
