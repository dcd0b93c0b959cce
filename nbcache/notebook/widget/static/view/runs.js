// ------------------------------------------------------------------ all runs, and two compared

const RUNS = 12;

class Runs {
  constructor(view) {
    this.view = view;
    this.title = "runs";
    this.chosen = [];
    this.query = { text: "", offset: 0, limit: RUNS };
    this.search = h("input", { type: "search", placeholder: "filter by name, parameter …", "aria-label": "filter the runs",
      oninput: later(() => this.load({ text: this.search.value, offset: 0 }), 200) });
    this.compare = h("button", { type: "button", onclick: () => this.diff() }, "Compare");
    this.hint = h("span", { class: "nb-faint", "aria-live": "polite" });
    this.pager = new Pager(RUNS, (by) => this.load({ offset: Math.max(0, this.query.offset + by) }), ["Newer", "Older"]);
    this.body = h("tbody");
    this.empty = h("p", { class: "nb-empty" }, "looking …");
    this.root = h("div", { class: "nb-runs" },
      h("div", { class: "nb-tools" }, this.search, this.compare, this.hint, this.pager.root),
      h("div", { class: "nb-table-scroll", tabindex: "0", role: "group", "aria-label": "runs" }, h("table", {},
        h("thead", {}, h("tr", {}, ["", "run", "status", "when", "took", "tasks", "parameters"].map((text) =>
          h("th", { scope: "col", class: `nb-col-${text}` }, text || h("span", { class: "nb-hidden-text" }, "compare"))))), this.body)),
      this.empty);
    this.mark();
    this.load({});
  }

  async load(query) {
    Object.assign(this.query, query);
    try {
      const page = await this.view.ask({ ask: "runs", ...this.query });
      const key = JSON.stringify([page, this.view.run]);
      if (key === this.key) return;
      this.key = key;
      const held = this.body.contains(this.view.focused) && this.view.focused;
      this.view.keepFocus(() => {
        this.body.replaceChildren(...page.rows.map((row) => this.row(row)));
        if (held) this.body.querySelector(`${held.localName}[data-run="${CSS.escape(held.dataset.run)}"]`)?.focus();
      });
      this.pager.show(page.offset, page.matched);
      note(this.empty, page.rows.length ? "" : page.total ? "No run fits the filter." : "There are no runs yet.");
    } catch (error) {
      this.key = undefined; // the next answer takes this away
      note(this.empty, error.message);
    }
  }

  refresh() { return this.root.isConnected ? this.load({}) : undefined; }

  row(run) {
    const mine = run.run === this.view.run;
    const tick = h("input", { type: "checkbox", "data-run": run.run, "aria-label": `compare ${run.name}`, checked: this.chosen.some((each) => each.run === run.run),
      onchange: () => this.tick(run, tick.checked) });
    return h("tr", { class: mine ? "nb-mine" : null }, h("td", {}, tick),
      h("td", {}, h("button", { type: "button", class: "nb-link", "data-run": run.run, title: "show this run above", onclick: () => this.view.show(run.run) }, run.name), mine ? h("span", { class: "nb-faint" }, " shown") : null),
      h("td", {}, statusOf(run.status, this.view.scene.icons)), h("td", {}, run.when), h("td", { class: "nb-col-took" }, run.took), h("td", { class: "nb-col-tasks" }, run.tasks),
      h("td", { class: "nb-col-why", title: run.parameters || null }, run.parameters));
  }

  tick(run, on) {
    this.chosen = this.chosen.filter((each) => each.run !== run.run);
    if (on) this.chosen.push(run);
    if (this.chosen.length > 2) {
      const gone = this.chosen.shift(), box = this.body.querySelector(`input[data-run="${CSS.escape(gone.run)}"]`);
      if (box) box.checked = false; // on another page there is none
    }
    this.mark();
  }

  mark() {
    const ready = this.chosen.length === 2;
    allow(this.compare, ready);
    this.hint.textContent = ready ? "" : this.chosen.length ? "tick one more run" : "tick two runs to compare them";
  }

  diff() {
    if (this.chosen.length !== 2) { this.view.say("Compare: tick two runs first"); return; }
    const [before, after] = [...this.chosen].sort((a, b) => (a.run < b.run ? -1 : 1)); // ids begin with the time
    this.view.open([this, new Diff(this.view, before, after)]);
  }
}

class Diff {
  constructor(view, before, after, asked = {}) {
    this.view = view;
    this.question = { ...asked, ask: "diff", before: before.run, after: after.run };
    this.title = `${before.name} → ${after.name}${asked.process ? ` · ${asked.process}` : ""}`;
    this.root = h("div", { class: "nb-compare" }, h("p", { class: "nb-empty" }, "looking …"));
    this.load(Boolean(asked.data));
  }

  async load(data) {
    try {
      this.show(await this.view.ask({ ...this.question, data }));
    } catch (error) {
      this.root.replaceChildren(unanswered(error, () => this.load(data)));
    }
  }

  show({ page, differ, data }) {
    const more = h("button", { type: "button", onclick: () => { more.textContent = "Comparing…"; this.load(true); } }, "Compare the results that differ");
    this.view.keepFocus(() => fill(this.root, ...elements(page), differ && !data ? h("div", { class: "nb-tools" }, more) : null));
  }
}
