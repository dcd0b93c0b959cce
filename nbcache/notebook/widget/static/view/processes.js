// ------------------------------------------------------------------ all processes, as a table

class Processes {
  constructor(view) {
    this.view = view;
    this.title = "processes";
    this.offset = 0;
    this.search = h("input", { type: "search", placeholder: "filter by name or state …", "aria-label": "filter the processes",
      oninput: () => { this.offset = 0; this.refresh(); } });
    this.count = h("span", { class: "nb-faint", "aria-live": "polite" });
    this.back = h("button", { type: "button", onclick: () => this.turn(-PAGE) }, "Previous");
    this.on = h("button", { type: "button", onclick: () => this.turn(PAGE) }, "Next");
    this.body = h("tbody");
    this.root = h("div", {},
      h("div", { class: "nb-tools" }, this.search, h("span", { class: "nb-space" }), this.count, this.back, this.on),
      h("div", { class: "nb-table-scroll", tabindex: "0", role: "group", "aria-label": "processes" }, h("table", {},
        h("thead", {}, h("tr", {}, ["process", "state", "tasks", "reads from"].map((text) => h("th", { scope: "col" }, text)))), this.body)));
    this.refresh();
  }

  turn(by) {
    this.offset = Math.max(0, this.offset + by);
    this.refresh();
  }

  refresh() {
    const { names, reads, icons } = this.view.scene, wanted = this.search.value.toLowerCase();
    const rows = names.map((name, index) => ({ name, index, counts: this.view.counts[index] }))
      .map((row) => ({ ...row, state: stateOf(row.counts), text: phrase(row.counts) }))
      .filter(({ name, state, text }) => `${name} ${state} ${text}`.toLowerCase().includes(wanted));
    const focused = this.body.contains(document.activeElement) && document.activeElement.textContent;
    this.body.replaceChildren(...rows.slice(this.offset, this.offset + PAGE).map(({ name, index, state, text }) => h("tr", {},
      h("td", {}, h("button", { type: "button", class: "nb-link", onclick: () => this.view.choose(name) }, name)),
      h("td", {}, statusOf(state, icons)), h("td", {}, text),
      h("td", { class: "nb-col-why" }, reads[index].map((tail) => names[tail]).join(", ")))));
    if (focused) [...this.body.querySelectorAll("button")].find((each) => each.textContent === focused)?.focus();
    this.back.hidden = this.on.hidden = rows.length <= PAGE;
    this.back.disabled = !this.offset;
    this.on.disabled = this.offset + PAGE >= rows.length;
    this.count.textContent = rows.length <= PAGE ? "" : `${this.offset + 1}–${Math.min(this.offset + PAGE, rows.length)} of ${number(rows.length)}`;
  }
}
