// ------------------------------------------------------------------ a run

class RunView extends View {
  constructor(model, el) {
    super(model, el, "run");
    const { name, runs } = model.get("page") ?? {};
    if (name === "runs") this.toggle(Runs);
    if (name === "diff") this.open([new Diff(this, ...runs)]);
  }

  close() {
    super.close();
    this.picture.watching.disconnect();
  }

  hidden(twin) {
    return `${twin}, .jp-OutputArea-child:has(${twin}) { display: none; }`;
  }

  parts() {
    this.line = h("span", { class: "nb-line" });
    this.facts = h("span", { class: "nb-facts" });
    this.picture = new Picture((name) => this.choose(name), () => this.schedule());
    return [
      h("div", { class: "nb-head" },
        h("div", { class: "nb-title" }, this.sign, h("div", {}, this.line, " ", this.facts)), this.buttons),
      this.bar, this.picture.root, this.lines];
  }

  label() { return `run ${this.head.name}`; }

  load(scene) { this.picture.load(scene); }

  mark(name) { this.picture.mark(name); }

  focusOn(name) {
    const index = this.scene.names.indexOf(name);
    if (index >= 0) this.picture.focus(index);
  }

  paint() {
    const seen = this.picture.window();
    for (const index of this.dirty.nodes) {
      if (!seen(this.scene.corners[index])) continue; // until somebody looks there
      this.picture.node(index, this.counts[index]);
      this.dirty.nodes.delete(index);
    }
    for (const index of this.dirty.items) this.picture.items(index, this.itemCounts[index]);
    this.dirty.items.clear();
  }

  paintHead() {
    this.paintBar();
    this.line.textContent = this.head.line;
    this.tick();
    this.paintButtons(["Table", () => this.toggle(Processes)], ["Runs", () => this.toggle(Runs)]);
    this.paintLines();
  }

  stateOf(sum) {
    if (sum[FAILED] || this.head.status === "failed") return "failed";
    if (this.head.going) return "running";
    if (this.head.status !== "succeeded") return "pending";
    return sum[COMPLETED] || !done(sum) ? "done" : "cached";
  }

  tick() {
    const parts = [];
    if (this.head.going) parts.push(this.head.status, `for ${duration((performance.now() - this.startedAt) / 1000)}`);
    if (this.head.done && this.head.cached)
      parts.push(`${Math.floor((100 * this.head.cached) / this.head.done)} % from the cache`);
    if (this.head.going && this.head.saved_s >= 0.05) parts.push(`saved ${duration(this.head.saved_s)}`);
    if (this.head.elsewhere && this.head.going) this.sync();
    if (this.head.going || this.wasGoing) this.refresh();
    this.wasGoing = this.head.going;
    const text = parts.join(" · ");
    if (this.facts.textContent !== text) this.facts.textContent = text;
  }
}
