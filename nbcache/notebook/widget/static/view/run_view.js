// ------------------------------------------------------------------ a run

class RunView extends View {
  constructor(model, el) {
    super(model, el, "run");
    const { name, runs, asked } = model.get("page") ?? {};
    if (name === "runs") this.toggle(Runs);
    if (name === "diff") this.open([new Diff(this, ...runs, asked)]);
  }

  close() {
    super.close();
    this.picture.watching.disconnect();
  }

  parts() {
    this.line = h("span", { class: "nb-line" });
    this.facts = h("span", { class: "nb-facts" });
    this.picture = new Picture({
      choose: (name) => this.choose(name),
      fold: (group, unfolded) => this.press({ ask: "fold", label: unfolded ? "Unfold" : "Fold", group, unfolded }),
      moved: () => this.schedule(),
    });
    return [
      h("div", { class: "nb-head" },
        h("div", { class: "nb-title" }, this.sign, h("div", {}, this.line, " ", this.facts)), this.buttons),
      this.bar, this.picture.root, this.lines];
  }

  label() { return `run ${this.head.name}`; }

  /** Show below what a task showed, in the notebook's own output; no more, where that is there. */
  async showTask(process, position) {
    const shown = this.isBelow(process, position);
    await this.press({ ask: "show", label: "Show", process, position: shown ? "" : position });
  }

  /** The kernel says which task that is: a page may be loaded again, or be one of several. */
  isBelow(process, position) { return this.below?.[0] === process && this.below[1] === String(position); }

  wayOn() { return { notes: [...this.head.notes, `what has finished is kept: run the cells above again, then %nbcache resume ${this.head.name}`] }; }

  load(scene) { this.picture.load(scene); }

  mark(name) { this.picture.mark(name); }

  focusOn(name) {
    const index = this.picture.boxNamed(name);
    if (index >= 0) this.picture.focus(index);
  }

  paint() {
    const { picture, dirty } = this, seen = picture.window();
    for (const index of new Set([...dirty.nodes].map((process) => picture.boxOf.get(process)))) {
      const { corner, members } = this.scene.boxes[index];
      if (!seen(corner)) continue; // until somebody looks there
      picture.node(index, this.counts);
      members.forEach((process) => dirty.nodes.delete(process));
    }
    for (const index of new Set([...dirty.items].map((edge) => picture.lineOf.get(edge))))
      if (index !== undefined) picture.items(index, this.itemCounts); // one inside of a group has no line
    dirty.items.clear();
  }

  paintHead() {
    this.paintBar();
    const { line, name } = this.head, at = line.lastIndexOf(name);
    fill(this.line, ...(at < 0 ? [line] : [line.slice(0, at), h("span", { class: "nb-run-name" }, name), line.slice(at + name.length)]));
    this.tick();
    this.paintButtons(["Table", Processes], ["Runs", Runs]);
    this.paintLines();
  }

  stateOf(sum) {
    if (sum[FAILED] || this.head.status === "failed") return "failed";
    if (this.head.going) return "running";
    if (this.head.status !== "succeeded") return "pending";
    return sum[COMPLETED] || !over(sum) ? "done" : "cached";
  }

  tick() {
    const parts = [];
    if (this.head.going) {
      const status = this.head.status === "running" ? "" : `${this.head.status} `; // the line says it
      parts.push(`${status}for ${duration((performance.now() - this.startedAt) / 1000)}`, this.silence());
    }
    const { hits, going } = this.head;
    if (hits && hits !== "0%" && (going || hits !== "100%")) parts.push(`${hits} from other runs`); // else the line says it
    if (this.head.going && this.head.saved_s >= 0.05) parts.push(`saved ${duration(this.head.saved_s)}`);
    if (this.head.elsewhere && this.head.going) this.sync();
    this.keepUp();
    const text = parts.filter(Boolean).join(" · ");
    write(this.facts, text);
  }
}
