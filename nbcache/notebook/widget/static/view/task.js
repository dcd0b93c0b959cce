// ------------------------------------------------------------------ one task

const LASTING = new Set(["completed", "equal", "cached", "stored"]); // a task that has ended so has ended for this run

class Task {
  constructor(view, process, position) {
    this.view = view;
    this.process = process;
    this.position = position;
    this.title = `${process}[${position}]`;
    this.root = h("div", { class: "nb-task" }, h("p", { class: "nb-empty" }, "looking …"));
    this.load();
  }

  ask(what) { return this.view.ask({ ask: what, process: this.process, position: this.position }); }

  async load() {
    try {
      const run = this.view.run, detail = await this.ask("task");
      this.run = run;
      this.show(detail);
    } catch (error) {
      if (this.drawn && this.view.isLeft) return; // what is known stays
      this.drawn = undefined;
      this.view.keepFocus(() => fill(this.root, unanswered(error, () => this.load())));
    }
  }

  refresh() {
    const moves = !this.drawn || this.run !== this.view.run || !LASTING.has(this.status); // a resume tries what failed again
    return this.root.isConnected && moves ? this.load() : undefined;
  }

  show(detail) {
    const drawn = JSON.stringify(detail);
    if (drawn === this.drawn) { this.loadLog(); return; }
    this.drawn = drawn;
    this.status = detail.status;
    this.title = detail.label;
    this.view.keepFocus(() => this.draw(detail));
    this.loadLog();
    if (detail.status !== "running") this.loadWhy();
  }

  draw(detail) {
    this.view.titlePanel();
    this.log ??= h("div", { class: "nb-log" });
    this.why = h("div", { class: "nb-why" }, detail.status === "running" ? "it runs now" : "…");
    const table = (label, rows, ...heads) => h("div", { class: "nb-table-scroll", tabindex: "0", role: "group", "aria-label": label }, h("table", {},
      h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, at) => h("td", { class: `nb-value${heads[at] === "digest" ? " nb-digest" : ""}` }, cell)))))));
    fill(this.root,
      h("div", { class: "nb-facts-line" }, statusOf(detail.status, this.view.scene.icons),
        ...detail.facts.map(([name, value]) => h("span", {}, h("span", { class: "nb-faint" }, `${name} `), value)),
        detail.hash ? h("span", {}, h("span", { class: "nb-faint" }, "hash "), h("code", { title: detail.hash }, detail.hash.split(":").pop().slice(0, 8))) : null,
        this.shower()),
      detail.error ? section("Error", this.errorOf(detail)) : null,
      detail.earlier?.length ? section("Earlier attempts",
        table("earlier attempts", detail.earlier.map(({ attempt, status, took, error }) => [attempt, status, took, brief(error)]), "attempt", "status", "took", "error")) : null,
      section("Why", this.why),
      section("Log", this.log),
      detail.inputs.length ? section("Inputs", table("inputs", detail.inputs.map((each) => [each.name, each.value]), "name", "value")) : null,
      detail.outputs.length ? section("Outputs", table("outputs", detail.outputs.map((each) => [each.name, each.value, each.digest.split(":").pop().slice(0, 8)]), "name", "value", "digest")) : null,
      detail.source?.length ? section(detail.language === "python" ? "Source" : "Command", elements(detail.source), detail.cell) : null,
      detail.components.length ? section("Fingerprint",
        table("components of the fingerprint", detail.components.map((each) => [each.kind, each.name, each.summary, each.digest]), "kind", "name", "what", "digest"),
        `${detail.components.length} component${detail.components.length === 1 ? "" : "s"}`, false) : null);
  }

  /** Shows what the task showed where its HTML may be, too. */
  shower() {
    const text = () => `${this.view.isBelow(this.process, this.position) ? "hide" : "show"} in the cell`;
    const button = h("button", { type: "button", class: "nb-link", title: "what it showed, in the cell's own output: with tables and all that is HTML",
      onclick: async () => {
        await this.view.showTask(this.process, this.position);
        this.nameShower();
      } }, text());
    this.nameShower = () => write(button, text());
    return button;
  }

  /** What went wrong, then where: of a long traceback its end is in sight, which tells most. */
  errorOf({ error, traceback }) {
    if (!traceback || traceback.trim() === error.trim()) return h("pre", { class: "nb-code nb-error", tabindex: "0" }, error);
    const where = h("pre", { class: "nb-code nb-error", tabindex: "0", "aria-label": "traceback" }, traceback);
    requestAnimationFrame(() => { where.scrollTop = where.scrollHeight; });
    return [h("p", { class: "nb-strong nb-said" }, error), where];
  }

  async loadLog() {
    let answer;
    try { answer = await this.ask("log"); } catch (error) { if (this.view.isLeft) return; answer = { chunks: [{ stream: "stderr", text: error.message }] }; }
    const key = JSON.stringify([answer.chunks, this.status]);
    if (key === this.logKey) return;
    this.logKey = key;
    const pieces = answer.chunks.map((chunk) => chunk.stream === "image"
      ? h("img", { src: `data:${chunk.mime};base64,${chunk.data}`, alt: "a picture that the task displayed" })
      : h("span", { class: `nb-${chunk.stream}` }, chunk.text));
    const old = this.log.firstChild;
    const atEnd = !old || old.scrollTop + old.clientHeight >= old.scrollHeight - 4;
    const pre = pieces.length
      ? h("pre", { class: "nb-code nb-log-text", tabindex: "0", "aria-label": "log" }, pieces)
      : h("p", { class: "nb-empty" }, this.status === "running" ? "nothing printed so far" : "nothing was printed");
    const scrolled = old?.scrollTop ?? 0;
    this.log.replaceChildren(pre);
    pre.scrollTop = atEnd ? pre.scrollHeight : scrolled;
  }

  async loadWhy() {
    let why;
    try { why = await this.ask("why"); } catch (error) { this.why.replaceChildren(unanswered(error, () => this.loadWhy())); return; }
    fill(this.why,
      h("p", { class: "nb-why-head" }, why.head),
      why.lines.length ? h("ul", { class: "nb-lines" }, why.lines.map((line) => h("li", {}, line.replace(/^ {2}/, "")))) : null,
      ...why.diffs.map((each) => h("details", { open: true }, h("summary", {}, each.title), elements(each.page))));
  }
}

/** A part of a task's page that folds. */
function section(title, content, remark = "", open = true) {
  return h("details", { class: "nb-section", open },
    h("summary", {}, h("span", { class: "nb-section-title" }, title), remark ? h("span", { class: "nb-faint" }, ` ${remark}`) : null),
    content);
}
