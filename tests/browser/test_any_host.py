"""A view in a front end of which nothing is known but that it keeps anywidget's contract."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from playwright.sync_api import Page, expect

from nbcache.notebook.widget.module import loader, module, style
from nbcache.notebook.widget.scene import scene_of
from nbcache.notebook.widget.state import delta, state_of
from tests.browser.bare import CONTROLS, whole
from tests.browser.test_bare_view import PIPELINE, going

_HOST = """async ([loader, library, first, hears]) => {
    const listeners = new Set(), kernel = { hears, asked: [] };
    const model = { // no more than this: neither a widget manager nor a comm
        get: (name) => ({ first, twin: "twin", page: {}, library: { id: "k", key: "k" } })[name],
        set: () => {}, save_changes: () => {},
        on: (name, heard) => listeners.add([name, heard]),
        off: (name, heard) => listeners.forEach((each) => {
            if (each[0] === name && each[1] === heard) listeners.delete(each);
        }),
        send: (content) => {
            if (!kernel.hears) throw new Error("the comm is closed");
            kernel.asked.push(content);
        },
    };
    window.listeners = listeners;
    window.kernel = kernel;
    window.says = (content) => [...listeners].forEach(([name, heard]) => {
        if (name === "msg:custom") heard(content, [new DataView(new ArrayBuffer(8))]);
    });
    window.library = library;
    const url = URL.createObjectURL(new Blob([loader], { type: "text/javascript" }));
    const { default: widget } = await import(url);
    window.views = ["light", "shadow"].map((kind) => {
        const place = document.body.appendChild(document.createElement("section"));
        const tree = kind === "shadow" ? place.attachShadow({ mode: "open" }) : place;
        const el = tree.appendChild(document.createElement("div"));
        const signal = new AbortController().signal;
        const view = { el, error: "" };
        view.ready = widget.render({ model, el, signal, experimental: {}, host: {} }).then(
            (close) => { view.close = close; }, (error) => { view.error = error.message; });
        return view;
    });
}"""


def open_two(page: Page, first: Mapping[str, Any], *, hears: bool = True) -> None:
    """Show one output twice, the second time in a shadow tree; nobody has answered anything."""
    page.set_content("<!doctype html><html lang='en'><title>host</title><body></body></html>")
    library = {"module": module(), "style": style()}
    page.evaluate(_HOST, [loader(), library, json.loads(json.dumps(first)), hears])


_SEND_LIBRARY = """async () => {
    for (const { ask, page } of kernel.asked.splice(0))
        if (ask === "library") says({ kind: "answer", page, answer: library });
    await Promise.all(views.map((view) => view.ready));
}"""


def test_two_views_of_one_output_live_by_the_contract_alone_and_end_by_themselves(
    page: Page,
) -> None:
    scene = scene_of(PIPELINE)
    runs = [going(scene, {"completed": k}, {}, {}) for k in range(3)]
    states = [state_of(scene, run, CONTROLS) for run in runs]
    page.clock.install()
    open_two(page, whole(scene, runs[0]))
    assert page.evaluate("kernel.asked.map((each) => each.ask)") == ["library"]  # once for both
    page.evaluate("(late) => says(late)", {"kind": "delta", "seq": 1})  # to nobody yet
    page.evaluate(_SEND_LIBRARY)
    trims = page.get_by_role("button", name="trim:")
    expect(trims).to_have_count(2)
    assert page.evaluate(
        "views.map(({ el }) => getComputedStyle(el.firstChild).containerType)"
    ) == [
        "inline-size",
        "inline-size",
    ]

    # What the kernel tells, both show; what one has asked, it alone takes.
    page.evaluate("(told) => says(told)", {"kind": "delta", "seq": 1, **delta(*states[:2])})
    for place in (0, 1):
        expect(trims.nth(place)).to_have_attribute("aria-label", "trim: 1/10")
    trims.nth(1).click()
    asked = page.evaluate("kernel.asked.find(({ ask }) => ask === 'tasks')")
    page.clock.fast_forward(1_500)  # for as long as it waits it asks for no other page
    assert page.evaluate("kernel.asked.filter(({ ask }) => ask === 'tasks').length") == 1
    answer = {"rows": [], "running": [], "matched": 0, "total": 0, "offset": 0, "statuses": {}}
    page.evaluate("(it) => says(it)", {"kind": "answer", **asked, "answer": answer})
    expect(page.locator(".nb-panel:visible")).to_have_count(1)
    expect(page.locator(".nb-empty:visible")).to_have_text("No task has ended yet.")

    trims.nth(1).press("Escape")
    table = page.get_by_role("button", name="Table", exact=True).nth(1)
    table.press("Enter")
    table.press("Escape")
    expect(table).to_be_focused()

    # One is taken away; the other goes on, and says so when the kernel hears no more.
    page.evaluate("views[0].close()")
    assert page.evaluate("listeners.size") == 2
    page.evaluate("views[0].el.remove()")
    page.evaluate("(told) => says(told)", {"kind": "delta", "seq": 2, **delta(*states[1:])})
    expect(trims).to_have_attribute("aria-label", "trim: 2/10")
    page.evaluate("kernel.hears = false")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".nb-status")).to_have_text("the kernel has ended: run the cell again")
    page.evaluate("views[1].close()")
    assert page.evaluate("listeners.size") == 0
    page.evaluate("(told) => says(told)", {"kind": "whole", **whole(scene, runs[0], 9)})


def test_an_output_whose_kernel_has_ended_asks_for_its_cell_and_listens_no_more(
    page: Page,
) -> None:
    scene = scene_of(PIPELINE)

    open_two(page, whole(scene, going(scene, {}, {}, {})), hears=False)
    page.evaluate("Promise.all(views.map((view) => view.ready))")

    told = page.evaluate("views.map(({ error }) => error)")
    assert told == ["no kernel has sent this view: run the cell again"] * 2
    assert page.evaluate("listeners.size") == 0


_GIVEN_UP = """async ([loader, library, first]) => {
    const listeners = new Set();
    class Widget {
        async _handle_comm_msg(content) { listeners.forEach((heard) => heard(content)); }
    }
    class Late extends Widget { // as anywidget has it: what was not ready in time never is
        async _handle_comm_msg() { throw new Error("not ready in time"); }
    }
    const output = Object.assign(new Late(), { comm: { on_msg: (heard) => { line = heard; } } });
    let line = (content) => output._handle_comm_msg(content);
    window.says = (content) => line(content).catch(() => {});
    const model = {
        get: (name) => ({ first, page: {}, library: { id: "k", key: "k", own: "output" } })[name],
        on: (name, heard) => listeners.add(heard),
        off: (name, heard) => listeners.delete(heard),
        send: () => {},
        widget_manager: { get_model: async (id) => ({
            k: { get: (name) => library[name] }, output,
        })[id] },
    };
    const url = URL.createObjectURL(new Blob([loader], { type: "text/javascript" }));
    const el = document.body.appendChild(document.createElement("div"));
    await (await import(url)).default.render({ model, el });
}"""


def test_an_output_that_was_not_ready_in_time_on_a_busy_page_hears_its_kernel(page: Page) -> None:
    scene = scene_of(PIPELINE)
    runs = [going(scene, {"completed": k}, {}, {}) for k in range(2)]
    page.goto("about:blank")
    library = {"module": module(), "style": style()}
    page.evaluate(_GIVEN_UP, [loader(), library, json.loads(json.dumps(whole(scene, runs[0])))])
    trim = page.get_by_role("button", name="trim:")
    expect(trim).to_have_attribute("aria-label", "trim: 0/10")

    page.evaluate("(told) => says(told)", {"kind": "whole", **whole(scene, runs[1], 2)})

    expect(trim).to_have_attribute("aria-label", "trim: 1/10")
