// ------------------------------------------------------------------ a process, in its own cell

class CardView extends View {
  constructor(model, el) {
    super(model, el, "process");
    for (const kind of ["pointermove", "focusin"]) this.root.addEventListener(kind, () => this.askPlan());
  }

  /** What tasks showed stays: only the notebook's own output may show their HTML. */
  hidden(twin) {
    return `${twin} .nbcache-head, .jp-OutputArea-child:has(${twin}):not(:has(.nbcache-shown)) { display: none; }`;
  }

  parts() {
    this.title = h("div", { class: "nb-signature" });
    this.state = h("div", { class: "nb-card-state" });
    this.now = h("div", { class: "nb-faint nb-now", "aria-live": "polite" });
    return [
      h("div", { class: "nb-head" }, this.title, this.buttons),
      this.state, this.bar, this.now, this.lines];
  }

  label() { return `process ${this.card.name}`; }
  load() {}
  mark() {}
  focusOn() { this.tasks?.focus(); }

  paint() {
    this.dirty.nodes.clear();
    this.dirty.items.clear();
  }

  paintHead() {
    const { name, signature, wiring, captures, plan, reason, notes } = this.card;
    this.name = name;
    fill(this.title, h("b", {}, name), h("span", {}, signature),
      ...[wiring, captures].filter(Boolean).map((text) => h("span", { class: "nb-part-of" }, ` · ${text}`)));
    this.paintBar();
    const counts = this.counts[0];
    this.bar.hidden = !this.head.run;
    if (!this.head.run) fill(this.state, this.sign, h("span", {}, plan));
    else {
      const text = phrase(counts);
      if (this.tasks?.textContent !== text || !this.tasks.isConnected) {
        this.tasks = h("button", { type: "button", class: "nb-link", title: "the tasks", onclick: () => this.choose(name) }, text);
        fill(this.state, this.sign, this.tasks, h("span", { class: "nb-faint" }, `run ${this.head.name}`));
      }
    }
    this.tellPlan();
    this.paintButtons();
    this.paintLines(...(this.head.run || !reason ? [] : [reason]), ...notes);
  }

  /** What a run would do now, once the last one is over: the notebook may have changed since. */
  tellPlan() {
    const { plan, reason } = this.card;
    const words = this.head.run && !this.head.going && this.card.again ? `a run now: ${[plan, reason].filter(Boolean).join(": ")}` : "";
    if (this.now.textContent !== words) this.now.textContent = words;
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
    this.ask({ ask: "card" }).then((card) => {
      this.card = card;
      this.dirty.head = true;
      this.schedule();
    }, () => {});
  }

  close() {
    super.close();
    clearTimeout(this.planLater);
  }

  stateOf(sum) { return this.head.run ? stateOf(sum) : "pending"; }

  tick() {
    if (this.head.going || this.wasGoing) this.refresh();
    this.wasGoing = this.head.going;
  }
}
