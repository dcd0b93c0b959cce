// ------------------------------------------------------------------ the tasks of a process

const COLUMNS = [["status", "status"], ["task", "task"], ["duration", "took"], ["memory", "memory"], ["why", "why"]];
const PAGE = 20;

class Tasks {
  constructor(view, process, status = "") {
    this.view = view;
    this.process = process;
    this.query = { sort: "task", descending: false, text: "", status, offset: 0, limit: PAGE };
    this.search = h("input", { type: "search", placeholder: "filter by tag, input, error …", "aria-label": `filter the tasks of ${process}`,
      oninput: later(() => this.change({ text: this.search.value, offset: 0 }), 200) });
    this.which = h("select", { "aria-label": "status", onchange: () => this.change({ status: this.which.value, offset: 0 }) });
    this.body = h("tbody");
    this.rows = new Map(); // what is shown, by key
    this.heads = COLUMNS.map(([key, label]) => h("th", { scope: "col", class: `nb-col-${key}` },
      h("button", { type: "button", class: "nb-sort", onclick: () => this.change({ sort: key, offset: 0,
        descending: this.query.sort === key && !this.query.descending }) }, label)));
    this.pager = new Pager(PAGE, (by) => this.change({ offset: Math.max(0, this.query.offset + by) }));
    this.empty = h("p", { class: "nb-empty" }, "looking …");
    const from = h("button", { type: "button", title: `a new run in which ${process} and all below it run again`,
      onclick: () => this.view.open([this, new Form(this.view, process)]) }, "Run from here…");
    this.root = h("div", { class: "nb-tasks" },
      h("div", { class: "nb-tools" }, this.search, this.which, from, this.pager.root),
      h("div", { class: "nb-table-scroll", tabindex: "0", role: "group", "aria-label": `tasks of ${process}` },
        h("table", {}, h("thead", {}, h("tr", {}, this.heads)), this.body)),
      this.empty);
    fill(this.which, h("option", { value: "" }, "all states"));
    this.markSort();
    this.load();
  }

  get title() { return this.process; }

  change(query) {
    Object.assign(this.query, query);
    this.body.classList.add("nb-waiting");
    this.markSort();
    this.load();
  }

  markSort() {
    this.heads.forEach((head, at) => {
      const mine = COLUMNS[at][0] === this.query.sort;
      head.setAttribute("aria-sort", !mine ? "none" : this.query.descending ? "descending" : "ascending");
    });
  }

  async load() {
    const asked = (this.asked = {});
    try {
      const page = await this.view.ask({ ask: "tasks", process: this.process, ...this.query });
      if (asked === this.asked) this.show(page);
    } catch (error) {
      if (asked === this.asked) note(this.empty, error.message);
    } finally {
      if (asked === this.asked) this.asked = undefined;
    }
  }

  /** Called about once a second while the run goes; who waits for a page need not wait for another. */
  refresh() { return this.root.isConnected && !this.asked ? this.load() : undefined; }

  show(page) {
    const { icons } = this.view.scene;
    const options = [["", "all states"], ...Object.entries(page.statuses).map(([name, n]) => [name, `${name} (${number(n)})`])];
    if (this.query.status && !(this.query.status in page.statuses)) options.push([this.query.status, this.query.status]);
    if (this.view.focused !== this.which || this.which.children.length === 1) // else its list may be open
      this.which.replaceChildren(...options.map(([value, text]) => h("option", { value, selected: value === this.query.status }, text)));
    this.body.classList.remove("nb-waiting");
    const rows = [
      ...page.running.map((each) => this.row(each, "running", `for ${duration(each.seconds)}`, "", each.attempt > 1 ? `attempt ${each.attempt}` : "")),
      ...page.rows.map((each) => this.row(each, each.status,
        each.duration != null ? duration(each.duration) : each.saved != null ? `saved ${duration(each.saved)}` : "",
        each.memory ? size(each.memory) : "", each.why)),
    ];
    this.rows = new Map(rows);
    const focused = this.body.contains(this.view.focused) && this.view.focused.dataset.position;
    this.view.keepFocus(() => {
      arrange(this.body, rows.map(([, row]) => row.root));
      if (focused) this.body.querySelector(`[data-position="${CSS.escape(focused)}"]`)?.focus();
    });
    const from = page.matched ? page.offset + 1 : 0, to = Math.min(page.offset + PAGE, page.matched);
    const of = page.matched === page.total ? number(page.total) : `${number(page.matched)} of ${number(page.total)}`;
    const ended = page.running.length ? " ended" : ""; // those that run stand above them, uncounted
    this.pager.show(page.offset, page.matched, page.matched > PAGE ? `${number(from)}–${number(to)} of ${of}${ended}` : page.matched === page.total ? "" : `${of}${ended}`);
    note(this.empty, rows.length ? "" : page.total || this.query.text ? "No task fits the filter." : this.view.head.going ? "No task has ended yet." : this.noTasks());
  }

  /** Why there is none, where that is known: what failed above leaves nothing to gather. */
  noTasks() {
    const { names, reads } = this.view.scene, above = new Set();
    if (over(this.view.counts[names.indexOf(this.process)])) return "The cache knows these tasks no more: was its folder deleted?";
    const climb = (index) => reads[index]?.forEach((tail) => { if (!above.has(tail)) { above.add(tail); climb(tail); } });
    climb(names.indexOf(this.process));
    const failed = [...above].filter((index) => this.view.counts[index][FAILED]).map((index) => names[index]);
    if (!failed.length) return "It had no tasks in this run.";
    return `It had no tasks in this run: tasks of ${failed.slice(0, 3).join(", ")}${failed.length > 3 ? " and others" : ""} above it have failed.`;
  }

  /** Its key and a row that says so: the one that is there already, where there is one. */
  row(each, status, took, memory, why) {
    const key = `${status === "running"} ${each.position} ${each.label}`, row = this.rows.get(key) ?? this.newRow(each);
    if (row.status !== status) fill(row.state, statusOf(status, this.view.scene.icons));
    row.status = status;
    write(row.took, took);
    write(row.memory, memory);
    write(row.why, why);
    row.why.title = why ?? "";
    return [key, row];
  }

  newRow({ label, position }) {
    const open = () => this.view.openTask(this.process, position), name = inner(label);
    const [state, took, memory, why] = ["nb-col-status", "nb-number", "nb-number nb-col-memory", "nb-col-why"].map((look) => h("td", { class: look }));
    const root = h("tr", { onclick: (event) => { if (event.target.closest("button") == null) open(); } }, state,
      h("td", { class: "nb-col-task" }, h("button", { type: "button", class: "nb-link", title: label, "aria-label": name, "data-position": position, onclick: open }, middle(name))),
      took, memory, why);
    return { root, state, took, memory, why };
  }
}
