// ------------------------------------------------------------------ a run with other parameters

class Form {
  constructor(view, from = "") {
    this.view = view;
    this.title = "relaunch";
    this.from = from;
    this.root = h("form", { class: "nb-form", onsubmit: (event) => { event.preventDefault(); this.start(); } }, h("p", { class: "nb-empty" }, "…"));
    this.load();
  }

  async load() {
    try {
      this.show(await this.view.ask({ ask: "form" }));
    } catch (error) {
      this.root.replaceChildren(h("p", { class: "nb-empty" }, error.message));
    }
  }

  show({ fields, processes }) {
    this.fields = fields.map((field) => this.field(field));
    const again = later(() => this.plan(), 250);
    this.origin = h("select", { id: `${this.view.key}-from`, onchange: () => this.plan() },
      h("option", { value: "" }, "only what the cache has not"),
      processes.map((name) => h("option", { value: name, selected: name === this.from }, `${name} and all below it`)));
    this.button = h("button", { type: "submit", class: "nb-first" }, "Start the run");
    this.planned = h("div", { class: "nb-planned", "aria-live": "polite" });
    fill(this.root,
      h("div", { class: "nb-fields" },
        fields.length ? this.fields.map((field) => field.root) : h("p", { class: "nb-empty" }, "No parameter was given to this run, and its processes read no variable with a plain value."),
        h("label", { for: this.origin.id }, "run again"), this.origin),
      this.planned, h("div", { class: "nb-tools" }, this.button));
    this.root.addEventListener("input", again);
    this.plan();
  }

  field({ name, text, kind }) {
    const id = `${this.view.key}-field-${name}`;
    const plain = kind === "str" ? unquoted(text) : text;
    const input = kind === "bool" ? h("input", { type: "checkbox", id, checked: text === "True" })
      : h("input", { type: kind === "int" || kind === "float" ? "number" : "text", step: kind === "float" ? "any" : "1", id, value: plain, spellcheck: "false" });
    const literal = () => kind === "bool" ? (input.checked ? "True" : "False") : kind === "str" ? quoted(input.value) : input.value;
    const was = literal();
    const mark = h("button", { type: "button", class: "nb-link", hidden: true, onclick: () => {
      if (kind === "bool") input.checked = text === "True"; else input.value = plain;
      input.dispatchEvent(new Event("input", { bubbles: true }));
    } }, `changed · back to ${plain}`);
    const field = { name, literal, changed: () => literal() !== was,
      root: [h("label", { for: id }, h("code", {}, name)), h("span", { class: "nb-field" }, input, mark)] };
    input.addEventListener("input", () => {
      mark.hidden = !field.changed();
      input.classList.toggle("nb-changed", field.changed());
    });
    return field;
  }

  asked() {
    const parameters = Object.fromEntries(this.fields.filter((field) => field.changed()).map((field) => [field.name, field.literal()]));
    return { parameters, from: this.origin.value };
  }

  async plan() {
    const asked = (this.planning = {});
    let content;
    try {
      const plans = await this.view.ask({ ask: "plan", ...this.asked() });
      content = this.planTable(plans);
    } catch (error) {
      content = h("p", { class: "nb-bad-text" }, error.message);
    }
    if (asked === this.planning) this.planned.replaceChildren(content);
  }

  planTable(plans) {
    const sum = (key) => plans.reduce((all, plan) => all + plan[key], 0);
    const known = `${number(sum("to_run"))} to run, ${number(sum("cached"))} cached`;
    const open = sum("unknown");
    return h("div", {},
      h("p", { class: "nb-why-head" }, `This run: ${known}${open ? `, ${number(open)} known when their inputs are made` : ""}`),
      h("div", { class: "nb-table-scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, ["process", "tasks", "cached", "to run", "why"].map((text, at) => h("th", { scope: "col", class: at && at < 4 ? "nb-number" : null }, text)))),
        h("tbody", {}, plans.map((plan) => h("tr", {}, h("td", {}, h("code", {}, plan.name)),
          h("td", { class: "nb-number" }, plan.tasks == null ? "?" : number(plan.tasks)), h("td", { class: "nb-number" }, number(plan.cached)),
          h("td", { class: "nb-number" }, plan.unknown && !plan.to_run ? "?" : number(plan.to_run)), h("td", { class: "nb-col-why", title: plan.reason }, plan.reason)))))));
  }

  start() {
    this.view.press({ ask: "relaunch", label: "Relaunch", ...this.asked() });
    this.view.openNothing();
  }
}

/** A Python literal of a text, and the text of one (as repr writes it). */
const quoted = (text) => `'${text.replace(/\\/g, "\\\\").replace(/'/g, "\\'").replace(/\n/g, "\\n")}'`;
const unquoted = (literal) => literal.slice(1, -1).replace(/\\(n|t|\\|'|")/g,
  (_, c) => ({ n: "\n", t: "\t" })[c] ?? c);
