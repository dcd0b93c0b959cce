// ------------------------------------------------------------------ a process, in its own cell

class CardView extends View {
  constructor(model, el) {
    super(model, el, "process");
    for (const kind of ["pointermove", "focusin"]) this.root.addEventListener(kind, () => this.askPlan());
  }

  parts() {
    this.title = h("div", { class: "nb-signature" });
    this.state = h("div", { class: "nb-card-state" });
    this.picker = h("div", { class: "nb-picker", role: "group", "aria-label": "what tasks showed", hidden: true });
    this.now = h("div", { class: "nb-faint nb-now", "aria-live": "polite" });
    return [
      h("div", { class: "nb-head" }, this.title, this.buttons),
      this.state, this.bar, this.lines, this.picker];
  }

  callTask(label) { return inner(label); }

  label() { return `process ${this.card.name}`; }
  load() {}
  mark() {}
  focusOn() { this.tasks?.focus(); }

  paint() {
    this.dirty.nodes.clear();
    this.dirty.items.clear();
  }

  paintHead() {
    const { name, signature, wiring, captures, plan, reason, notes, hindrances, again } = this.latest;
    this.name = name;
    fill(this.title, h("b", {}, name), h("span", {}, signature),
      ...[wiring, captures].filter(Boolean).map((text) => h("span", { class: "nb-part-of" }, ` · ${text}`)));
    this.paintBar();
    const counts = this.counts[0];
    this.bar.hidden = !this.head.run;
    if (!this.head.run) fill(this.state, this.sign, h("span", {}, plan));
    else {
      if (!this.tasks?.isConnected) {
        this.tasks = h("button", { type: "button", class: "nb-link", title: "the tasks", onclick: () => this.choose(this.name) });
        this.ran = h("span", { class: "nb-faint" });
        fill(this.state, this.sign, this.tasks, this.ran, this.now);
      }
      write(this.tasks, phrase(counts));
      const ended = ["cancelled", "interrupted", "stopped"].includes(this.head.status) ? ` ${this.head.status}` : "";
      write(this.ran, `run ${this.head.name}${ended}`);
    }
    this.tellPlan();
    this.askShowing();
    this.paintButtons();
    const had = this.head.run && !again; // a run that began later has had them: they are gone
    this.paintLines(...(this.head.run || !reason ? [] : [reason]), ...notes, ...(had ? [] : hindrances.map((text) => ({ text, kind: "nb-hindrance" }))));
  }

  /** Once a run has ended: which of its tasks showed something, to pick from. */
  askShowing() {
    const key = this.end;
    if (key === this.showingKey) return;
    this.showingKey = key;
    this.picker.hidden = true;
    if (key) this.ask({ ask: "showing" }).then((answer) => { if (key === this.showingKey) this.offerShowing(answer); }, () => {});
  }

  /** All is in the notebook's own output below: only that may show HTML. */
  offerShowing({ tasks, total }) {
    if (total < 2) return;
    const pick = h("select", { "aria-label": `show what a task of ${this.name} showed`, onchange: () => choose(pick.selectedIndex) },
      h("option", { value: "" }, tasks.some(({ outcome }) => outcome === "failed") ? "first, failed and last" : "first and last"),
      tasks.map(({ label, outcome, position }) => h("option", { value: position }, `${inner(label)}${outcome === "failed" ? " · failed" : ""}`)),
      total > tasks.length ? h("option", { disabled: true }, `${number(total - tasks.length)} more: open one from the table of tasks`) : null);
    const step = (by) => choose(pick.selectedIndex + by);
    const back = h("button", { type: "button", "aria-label": "previous task", onclick: () => step(-1) }, "‹");
    const on = h("button", { type: "button", "aria-label": "next task", onclick: () => step(1) }, "›");
    const settle = (at) => {
      pick.selectedIndex = at;
      allow(back, at > 0);
      allow(on, at < tasks.length);
    };
    const choose = (at) => {
      if (at < 0 || at > tasks.length) return;
      settle(at);
      this.showTask(this.name, pick.value || null);
    };
    settle(0);
    fill(this.picker, h("span", { class: "nb-faint" }, "shown below"), pick, h("span", { class: "nb-steps" }, back, on),
      h("span", { class: "nb-faint" }, `${number(total)} tasks showed something`));
    this.picker.hidden = false;
  }

  /** Show below, in the notebook's own output, what a task showed. */
  showTask(_, position) { return this.press({ ask: "show", label: "Show", position }); }

  isBelow() { return false; } // there is always something below

  /** The card as it was asked for last, unless a run has ended since. */
  get latest() { return this.looked?.end === this.end ? this.looked.card : this.card; }

  /** What a run would do now, once the last one is over: the notebook may have changed since. */
  tellPlan() {
    const { plan, reason, again } = this.latest;
    const words = this.head.run && again ? `a run now: ${[plan, reason].filter(Boolean).join(": ")}` : "";
    write(this.now, words);
    this.now.title = words;
  }

  /** Ask for that where somebody comes near, at most every two seconds. */
  askPlan() {
    if (this.head.going) return;
    this.planWanted = this.planLater !== undefined;
    if (this.planWanted) return;
    this.planLater = setTimeout(() => {
      this.planLater = undefined;
      if (this.planWanted) this.askPlan();
    }, 2000);
    const end = this.end;
    this.ask({ ask: "card" }).then((card) => {
      this.looked = { card, end };
      this.dirty.head = true;
      this.schedule();
    }, () => {});
  }

  close() {
    super.close();
    clearTimeout(this.planLater);
  }

  stateOf(sum) { return this.head.run ? stateOf(sum) : "pending"; }

  tick() { this.keepUp(); }
}
