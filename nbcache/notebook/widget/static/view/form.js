// ------------------------------------------------------------------ a run with other parameters

const PLANS = 40; // processes in the table of a plan

class Form {
  constructor(view, from = "") {
    this.view = view;
    this.title = `relaunch ${view.head.name}`;
    this.from = from;
    this.root = h("form", { class: "nb-form", onsubmit: (event) => { event.preventDefault(); this.start(); } }, h("p", { class: "nb-empty" }, "looking …"));
    this.load();
  }

  async load() {
    try {
      this.show(await this.view.ask({ ask: "form" }));
    } catch (error) {
      this.root.replaceChildren(unanswered(error, () => this.load()));
    }
  }

  show({ fields, processes }) {
    this.fields = fields.map((field) => this.field(field));
    const again = later(() => this.plan(), 250);
    this.origin = h("select", { id: `${this.view.key}-from`, onchange: () => this.plan() },
      h("option", { value: "" }, "only what the cache has not"),
      processes.map((name) => h("option", { value: name, selected: name === this.from }, `${name} and all below it`)));
    this.button = h("button", { type: "submit", class: "nb-first" }, "Start the run");
    this.told = h("p", { "aria-live": "polite" }); // what a screen reader says after each change: not the table
    this.planned = h("div");
    fill(this.root,
      h("div", { class: "nb-fields" },
        fields.length ? this.fields.map((field) => field.root) : h("p", { class: "nb-empty" }, "No parameter was given to this run, and its processes read no variable with a plain value."),
        h("label", { for: this.origin.id }, "run again"), this.origin),
      h("div", { class: "nb-planned" }, this.told, this.planned), h("div", { class: "nb-tools" }, this.button));
    this.root.addEventListener("input", again);
    this.plan();
  }

  field({ name, text, kind }) {
    const id = `${this.view.key}-field-${name}`;
    const plain = kind === "str" ? unquoted(text) : text;
    const input = kind === "bool" ? h("input", { type: "checkbox", id, checked: text === "True" })
      : h("input", { type: kind === "int" || kind === "float" ? "number" : "text", step: kind === "float" ? "any" : "1", required: kind !== "str", id, value: plain, spellcheck: "false" });
    const literal = () => kind === "bool" ? (input.checked ? "True" : "False") : kind === "str" ? quoted(input.value)
      : kind === "float" && /^-?\d+$/.test(input.value) ? `${input.value}.0` : input.value; // 7 is another value than 7.0
    const was = literal();
    const mark = h("button", { type: "button", class: "nb-link", hidden: true, onclick: () => {
      if (kind === "bool") input.checked = text === "True"; else input.value = plain;
      input.dispatchEvent(new Event("input", { bubbles: true }));
      input.focus(); // this button is gone now
    } }, `changed · back to ${plain}`);
    const field = { name, input, literal, changed: () => literal() !== was,
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
    const wrong = this.fields.find(({ input }) => !input.validity.valid);
    let told, table = [], look = "nb-why-head";
    try {
      if (wrong) throw new Error(`${wrong.name}: ${wrong.input.validationMessage}`);
      const plans = await this.view.ask({ ask: "plan", ...this.asked() });
      told = this.planPhrase(plans);
      table = this.planTable(plans);
    } catch (error) {
      told = error.message;
      look = "nb-bad-text";
    }
    if (asked !== this.planning) return;
    write(this.told, told);
    this.told.className = look;
    fill(this.planned, ...table);
  }

  /** What kept the plan from being made is over. */
  over(said) { if (this.told?.textContent === said) this.plan(); }

  /** What the run would do, in a line. */
  planPhrase(plans) {
    const sum = (key) => plans.reduce((all, plan) => all + plan[key], 0), open = sum("unknown"), equal = sum("equal");
    return `This run: ${[`${number(sum("to_run"))} to run`, `${number(sum("cached"))} cached`,
      equal ? `${number(equal)} equal to one that runs` : "",
      open ? `${number(open)} known when ${open === 1 ? "its" : "their"} inputs are made` : ""].filter(Boolean).join(", ")}`;
  }

  /** And of each process; of very many those in which something runs. */
  planTable(plans) {
    const equal = plans.some((plan) => plan.equal);
    const shown = plans.length <= PLANS ? plans : plans.filter((plan) => plan.to_run || plan.unknown).slice(0, PLANS);
    const left = plans.length - shown.length;
    const counts = [["tasks", (plan) => plan.tasks], ["cached", (plan) => plan.cached],
      ["to run", (plan) => (plan.unknown && !plan.to_run ? null : plan.to_run)], ...(equal ? [["equal", (plan) => plan.equal]] : [])];
    const cells = (plan) => counts.map(([, of]) => h("td", { class: "nb-number" }, of(plan) == null ? "?" : number(of(plan))));
    return [
      h("div", { class: "nb-table-scroll", tabindex: "0", role: "group", "aria-label": "what the run would do" }, h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "process"),
          counts.map(([text]) => h("th", { scope: "col", class: "nb-number" }, text)), h("th", { scope: "col" }, "why"))),
        h("tbody", {}, shown.map((plan) => h("tr", {}, h("td", { class: "nb-col-task", title: plan.name }, h("code", {}, middle(plan.name))),
          cells(plan), h("td", { class: "nb-col-why", title: plan.reason || null }, plan.reason)))))),
      left ? h("p", { class: "nb-empty" }, `… and ${number(left)} more process${left === 1 ? "" : "es"}`) : null];
  }

  /** What was filled in stays until the run has begun: it may be refused, as while a cell runs. */
  async start() {
    const began = await this.view.act({ ask: "relaunch", label: "Relaunch", ...this.asked() });
    if (!began || this.view.stack.at(-1) !== this) return;
    if (this.root.contains(this.view.focused)) this.view.openNothing();
    else this.view.open([]); // who waits elsewhere keeps the focus there
  }
}

/** A Python literal of a text in one line, and the text of one (as repr writes it). */
const quoted = (text) => `'${text.replace(/[\\']/g, "\\$&")}'`;
const unquoted = (literal) => literal.slice(1, -1).replace(/\\(.)/g, "$1");
