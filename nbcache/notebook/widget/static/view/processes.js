// ------------------------------------------------------------------ all processes, as a table

class Processes {
  constructor(view) {
    this.view = view;
    this.title = "processes";
    this.offset = 0;
    this.known = new Map();
    this.search = h("input", { type: "search", placeholder: "filter by name or state …", "aria-label": "filter the processes",
      oninput: () => { this.offset = 0; this.refresh(); } });
    this.pager = new Pager(PAGE, (by) => { this.offset = Math.max(0, this.offset + by); this.refresh(); });
    this.body = h("tbody");
    this.empty = h("p", { class: "nb-empty" });
    this.root = h("div", {},
      h("div", { class: "nb-tools" }, this.search, this.pager.root),
      h("div", { class: "nb-table-scroll", tabindex: "0", role: "group", "aria-label": "processes" }, h("table", {},
        h("thead", {}, h("tr", {}, ["process", "state", "tasks", "reads from"].map((text) => h("th", { scope: "col" }, text)))), this.body)), this.empty);
    this.refresh();
  }

  /** The row of a process, once made. */
  row(name, from) {
    const key = `${name} ${from}`;
    if (!this.known.has(key)) {
      const state = h("td"), tasks = h("td");
      const root = h("tr", {},
        h("td", { class: "nb-col-task" }, h("button", { type: "button", class: "nb-link", title: name, "aria-label": name, onclick: () => this.view.choose(name) }, middle(name))),
        state, tasks, h("td", { class: "nb-col-why", title: from || null }, from));
      this.known.set(key, { root, state, tasks });
    }
    return this.known.get(key);
  }

  refresh() {
    const { names, reads, icons } = this.view.scene, wanted = this.search.value.toLowerCase();
    const rows = names.map((name, index) => ({ name, index, counts: this.view.counts[index] }))
      .map((row) => ({ ...row, state: wordOf(row.counts), text: phrase(row.counts) }))
      .filter(({ name, state, text }) => `${name} ${state} ${text}`.toLowerCase().includes(wanted));
    if (this.offset >= rows.length) this.offset = Math.max(0, Math.ceil(rows.length / PAGE) - 1) * PAGE; // while a run goes, fewer may fit
    const focused = this.body.contains(this.view.focused) && this.view.focused.getAttribute("aria-label");
    arrange(this.body, rows.slice(this.offset, this.offset + PAGE).map(({ name, index, state, text }) => {
      const row = this.row(name, reads[index].map((tail) => names[tail]).join(", "));
      if (row.was !== state) fill(row.state, statusOf(state, icons));
      row.was = state;
      write(row.tasks, text);
      return row.root;
    }));
    if (focused) [...this.body.querySelectorAll("button")].find((each) => each.getAttribute("aria-label") === focused)?.focus();
    note(this.empty, rows.length ? "" : names.length ? "No process fits the filter." : "This run has no processes.");
    this.pager.show(this.offset, rows.length,
      rows.length <= PAGE ? "" : `${this.offset + 1}–${Math.min(this.offset + PAGE, rows.length)} of ${number(rows.length)}`);
  }
}
