// ------------------------------------------------------------------ what all views have

const FAILURES = 5; // so many are listed at once
const SILENCE_MS = 20_000; // of a run that goes: then what it said may be lost (a computer that slept)
const DEAF = "this page was loaded again and does not hear how the cell's output changes: run the cell again";
const NO_KERNEL = "the kernel has ended: run the cell again";

/** One output, a group and no landmark, since a notebook has many: it hears the kernel, asks it, and opens pages below itself.

    A kind of view says what is drawn above the pages: `parts` (elements), `load` (another run),
    `paint` (what has changed since), and how a process is marked and focused. */
class View {
  constructor(model, el, label) {
    this.model = model;
    this.asked = new Map();
    this.pressed = new Map(); // what has begun or ended something, until the kernel answers: its id
    this.key = `nb-${Math.random().toString(36).slice(2)}`;
    this.stack = []; // what is open below, the last one on top
    this.nextId = 1;
    this.dirty = { nodes: new Set(), items: new Set(), head: false };
    this.build(el, label);
    this.hear = (message) => this.take(message);
    model.on("msg:custom", this.hear);
    this.left = () => this.leave();
    model.on("comm_live_update", this.left);
    this.whole(model.get("first"));
    this.sync();
    this.heardAt = performance.now();
    this.clock = setInterval(() => { this.tick(); this.listen(); }, 500);
  }

  close() {
    clearInterval(this.clock);
    clearTimeout(this.syncLater);
    clearTimeout(this.leaving);
    this.model.off("msg:custom", this.hear);
    this.model.off("comm_live_update", this.left);
    this.hide.remove();
  }

  build(el, label) {
    this.twin = String(this.model.get("twin")).replace(/[^\w-]/g, "");
    // The static picture in the next output says the same: hidden for as long as this is here.
    this.hide = h("style");
    this.hide.textContent = this.hidden(`#${this.twin}`);
    this.sign = h("span");
    this.buttons = h("div", { class: "nb-buttons", role: "toolbar", "aria-label": label });
    for (const kind of ["pointerenter", "focusin"]) this.buttons.addEventListener(kind, () => this.sync());
    this.bar = h("div", { class: "nb-bar", role: "progressbar", "aria-label": "tasks done", "aria-valuemin": "0" },
      PARTS.map((part) => h("span", { class: `nb-part-${part}` })));
    this.lines = h("ul", { class: "nb-lines" });
    this.crumbs = h("div", { class: "nb-crumbs", role: "group", "aria-label": "where you are" });
    this.place = h("div");
    this.panel = h("div", { class: "nb-panel", role: "group", tabindex: "-1", hidden: true, "aria-label": "details" },
      h("div", { class: "nb-panel-head" }, this.crumbs,
        h("button", { type: "button", class: "nb-close", "aria-label": "close", onclick: () => this.openNothing() }, "×")),
      this.place);
    this.status = h("div", { class: "nb-status", role: "status", "aria-live": "polite" });
    this.root = h("div", { class: "nbcache-view", role: "group", "aria-label": `nbcache ${label}` },
      this.hide, this.parts(), this.panel, this.status);
    // Of whatever has the focus: a notebook has shortcuts for `:focus` itself, which it looks at first.
    this.root.addEventListener("focusin", ({ target }) => target.setAttribute("data-lm-suppress-shortcuts", "true"));
    this.root.addEventListener("keydown", (event) => this.escape(event));
    for (const kind of ["keydown", "keypress", "keyup"])
      this.root.addEventListener(kind, (event) => event.stopPropagation());
    el.append(this.root);
  }

  // ---------------------------------------------------------------- messages

  /** Ask the kernel; the promise holds its answer. */
  ask(message, id = this.nextId++) {
    const before = this.asked.get(id);
    return new Promise((resolve, reject) => {
      this.asked.set(id, {
        resolve: (answer) => { before?.resolve(answer); resolve(answer); },
        reject: (error) => { before?.reject(error); reject(error); },
      });
      try { this.model.send({ ...message, id, page: this.key }); } catch { reject(new Error(NO_KERNEL)); }
      if (this.isLeft) this.giveUp();
    });
  }

  /** What was asked up to now of a kernel that seems to have ended is answered soon or never. */
  giveUp() {
    const next = this.nextId;
    setTimeout(() => {
      if (!this.isLeft) return; // it was only slow
      for (const [id, { reject }] of this.asked) {
        if (id >= next) continue;
        this.asked.delete(id);
        reject(new Error(NO_KERNEL));
      }
    }, 4000);
  }

  take(message) {
    this.hasKernel = true;
    if (this.isLeft && this.status.textContent === NO_KERNEL) this.say("");
    this.isLeft = false;
    this.heardAt = performance.now();
    if (message.kind === "answer") {
      if (message.page !== this.key) return;
      for (const [what, id] of this.pressed) if (id === message.id) this.pressed.delete(what);
      const waiting = this.asked.get(message.id);
      if (!waiting) return;
      this.asked.delete(message.id);
      if (message.error) waiting.reject(new Error(message.error));
      else waiting.resolve(message.answer);
    } else if (message.kind === "over") {
      if (this.status.textContent === message.said) this.say("");
      this.stack.at(-1)?.over?.(message.said);
    } else if (message.kind === "whole") {
      this.whole(message);
    } else if (message.kind === "delta" && message.seq > this.seq) {
      if (message.seq === this.seq + 1) this.delta(message);
      else this.sync();
    }
  }

  /** The kernel has ended, or the line to it: say so, unless it answers soon. What it says then counts again.

      How its run is called now (cancelled, interrupted) only the next kernel learns, from the log. */
  leave() {
    this.hasKernel = false;
    clearTimeout(this.leaving);
    this.leaving = setTimeout(() => {
      if (this.hasKernel || !this.head) return;
      this.isLeft = true;
      this.giveUp();
      if (this.head.going) {
        Object.assign(this.head, { going: false, elsewhere: false, status: "stopped", line: `the kernel has ended in the middle of run ${this.head.name}`, ...this.wayOn() });
        this.counts = this.counts.map((counts) => counts.map((count, state) => (state === RUNNING || state === COMMITTING ? 0 : count)));
        this.counts.forEach((_, index) => this.dirty.nodes.add(index));
        this.say(""); // what was said of the run that went
      }
      this.head.controls = this.head.controls.map((control) => ({ ...control, why_not: NO_KERNEL }));
      this.dirty.head = true;
      this.schedule();
    }, 1500);
    this.sync();
  }

  /** What else of the head changes where the kernel has ended in the middle of a run. */
  wayOn() { return {}; }

  /** A run that goes and says nothing may have ended meanwhile. */
  listen() {
    if (!this.head?.going || performance.now() - Math.max(this.heardAt, this.synced) < SILENCE_MS) return;
    this.sync();
  }

  /** For how long nothing was heard of a run that goes, in words, once that was asked about in vain. */
  silence() {
    const silent = performance.now() - this.heardAt;
    return silent > SILENCE_MS + 2000 ? `no news from the kernel for ${duration(Math.floor(silent / 1000))}` : "";
  }

  /** Ask how things stand; at most once in a while, since every hover may ask. */
  sync() {
    const wait = (this.synced ?? -1e9) + 700 - performance.now();
    if (wait > 0) {
      this.syncLater ??= setTimeout(() => { this.syncLater = undefined; this.sync(); }, wait);
      return;
    }
    this.synced = performance.now();
    this.ask({ ask: "sync" }).then((answer) => this.whole(answer), () => {});
  }

  whole(message) {
    if (!message?.scene || message.seq < this.seq) return;
    this.seq = message.seq;
    const drawn = JSON.stringify(message.scene); // all of it: other processes in a folded box may look alike
    if (this.drawn !== drawn) {
      this.drawn = drawn;
      this.scene = message.scene;
      this.load(message.scene);
    }
    this.run = message.head.run;
    this.head = { ...message.head }; // copies: other views of this output have the same message
    this.card = message.card;
    this.below = message.below;
    this.counts = [...message.counts];
    this.itemCounts = [...message.items];
    this.counts.forEach((_, index) => this.dirty.nodes.add(index));
    this.itemCounts.forEach((_, index) => this.dirty.items.add(index));
    this.startedAt = performance.now() - 1000 * this.head.elapsed_s;
    this.dirty.head = true;
    this.draw();
  }

  delta(message) {
    this.seq = message.seq;
    for (const [index, counts] of Object.entries(message.counts ?? {})) {
      this.counts[index] = counts;
      this.dirty.nodes.add(Number(index));
    }
    for (const [index, count] of Object.entries(message.items ?? {})) {
      this.itemCounts[index] = count;
      this.dirty.items.add(Number(index));
    }
    if (message.below !== undefined) this.below = message.below;
    if (message.head) {
      Object.assign(this.head, message.head);
      if (message.head.elapsed_s !== undefined)
        this.startedAt = performance.now() - 1000 * this.head.elapsed_s;
    }
    this.dirty.head = true;
    this.schedule();
  }

  // ---------------------------------------------------------------- drawing

  schedule() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = undefined;
    this.paint();
    if (this.dirty.head) {
      this.paintHead();
      this.stack.at(-1)?.nameShower?.();
    }
    this.dirty.head = false;
  }

  /** The bar, the icon and the colour of the whole. */
  paintBar() {
    const sum = sumOf(this.counts);
    const all = Math.max(1, this.head.total), parts = shares(sum);
    PARTS.forEach((part, at) => { this.bar.children[at].style.width = `${(100 * parts[part]) / all}%`; });
    this.bar.setAttribute("aria-valuemax", this.head.total);
    this.bar.setAttribute("aria-valuenow", Math.min(this.head.done, this.head.total));
    const state = this.stateOf(sum);
    this.settle();
    this.root.className = `nbcache-view nb-is-${state}`;
    this.root.setAttribute("aria-label", `nbcache ${this.label()}`);
    this.sign.replaceChildren(icon(state, this.scene.icons), h("span", { class: "nb-hidden-text" }, this.head.status));
  }

  paintButtons(...more) {
    const isOpen = (Page) => Page && String(this.stack[0] instanceof Page);
    const key = JSON.stringify([this.head.controls, this.hasKernel, more.map(([, Page]) => isOpen(Page)), isOpen(Form)]);
    if (key === this.buttonsKey) return;
    this.buttonsKey = key;
    const pushed = (control) => {
      if (control.why_not) this.say(`${control.label.replace("…", "")}: ${control.why_not}`);
      else if (control.ask === "form") this.toggle(Form);
      else this.act(control);
    };
    const wanted = [...this.head.controls.map((control) => ({ ...control, Page: control.ask === "form" && Form, onclick: () => pushed(control) })),
      ...more.map(([label, Page]) => ({ label, Page, onclick: () => this.toggle(Page) }))];
    const labels = JSON.stringify(wanted.map(({ label }) => label));
    if (labels !== this.buttonLabels) {
      this.buttonLabels = labels;
      const focused = [...this.buttons.children].indexOf(this.focused);
      this.buttons.replaceChildren(...wanted.map(({ label }) => h("button", { type: "button" }, label)));
      if (focused >= 0) this.buttons.children[Math.min(focused, wanted.length - 1)].focus();
    }
    // The same buttons as before: one that is replaced while it is pressed would lose the click.
    wanted.forEach(({ onclick, why_not, first, Page }, at) => {
      const button = this.buttons.children[at];
      button.onclick = onclick;
      button.className = first && !why_not ? "nb-first" : "";
      for (const [name, text] of [["title", why_not], ["aria-disabled", why_not ? "true" : ""], ["aria-expanded", isOpen(Page)]])
        if (text) button.setAttribute(name, text);
        else button.removeAttribute(name);
    });
  }

  paintLines(...more) {
    const { run, failures, more_failures, reasons, notes, error } = this.head;
    const key = JSON.stringify([run, failures, more_failures, reasons, notes, error, more, this.allFailures]);
    if (key === this.linesKey) return;
    this.linesKey = key;
    const shown = this.allFailures === run ? failures : failures.slice(0, FAILURES), hidden = failures.length - shown.length;
    const unfold = () => { this.allFailures = run; this.paintLines(...more); };
    this.lines.replaceChildren(
      ...shown.map((each) => h("li", { class: "nb-bad" },
        h("button", { type: "button", class: "nb-link", title: each.task, "aria-label": each.task, onclick: () => this.openFailure(each) }, middle(this.callTask(each.task))),
        " ", h("bdi", {}, brief(each.error)), each.where ? `, ${each.where}` : "")),
      ...(hidden ? [h("li", {}, h("button", { type: "button", class: "nb-link", onclick: unfold }, `${number(hidden + more_failures)} more failed`))]
        : more_failures ? [h("li", {}, `… and ${number(more_failures)} more: see the tasks of the process`)] : []),
      ...(error ? [h("li", { class: "nb-bad" }, error)] : []),
      ...[...reasons, ...notes, ...more].map((line) => h("li", { class: line.kind }, line.text ?? line)));
  }

  /** What tasks showed stays: only the notebook's own output may show their HTML. */
  hidden(twin) {
    return `${twin} .nbcache-head, ${twin} .nbcache-more, .jp-OutputArea-child:has(${twin}):not(:has(.nbcache-shown)) { display: none; }`;
  }

  /** Bring into sight what a task showed, once it is there.

      A page that was loaded again does not hear how that output changes: what stood there before still does. */
  lookBelow(before) {
    const asked = performance.now();
    const look = () => {
      const now = document.getElementById(this.twin), waited = performance.now() - asked;
      if (now && now !== before) {
        now.querySelector(".nbcache-shown")?.scrollIntoView({ block: "nearest" });
        if (this.status.textContent === DEAF) this.say(""); // it was only slow
      } else if (this.root.isConnected && waited < 10_000) {
        if (waited > 1000 && before && !this.status.textContent) this.say(DEAF);
        setTimeout(look, 100);
      }
    };
    look();
  }

  /** How a task is called here. */
  callTask(label) { return label; }

  say(text) {
    this.status.textContent = text;
  }

  /** That a run began or is ending is no news once it has ended. */
  settle() {
    const told = this.status.textContent, { going, name } = this.head;
    if (!going && (told === `run ${name} began` || told.startsWith(`run ${name} is ending`))) this.say("");
  }

  // ---------------------------------------------------------------- acting

  /** Begin or end a run. Pressed again before the kernel has answered, it is the same press: by its id the kernel knows it. */
  act({ why_not: _, first: __, ...question }) {
    const what = JSON.stringify(question);
    if (!this.pressed.has(what)) this.pressed.set(what, this.nextId++);
    return this.press({ ...question, once: true }, this.pressed.get(what));
  }

  press({ label, ...question }, id = undefined) {
    const soon = setTimeout(() => this.say(`${label}: asked`), 400); // most are answered before one could read it
    const nobody = this.hasKernel ? "the kernel has not heard it yet: a cell keeps it busy, or it is stopped"
      : "no kernel answers: start it and run the cell again";
    const below = document.getElementById(this.twin);
    this.say("");
    const late = setTimeout(() => this.say(`${label}: ${nobody}`), 4000);
    return this.ask(question, id).then(
      (answer) => {
        this.say(answer?.said ?? "");
        this.settle();
        if (answer?.replaced) this.lookBelow(below);
        return answer;
      },
      (error) => this.say(error.message),
    ).finally(() => { clearTimeout(soon); clearTimeout(late); });
  }

  // ---------------------------------------------------------------- what is open below

  choose(name) {
    if (this.stack.length === 1 && this.stack[0].process === name) this.openNothing();
    else this.open([new Tasks(this, name)]);
  }

  openTask(process, position) {
    const tasks = this.stack[0]?.process === process ? this.stack[0] : new Tasks(this, process);
    this.open([tasks, new Task(this, process, position)]);
  }

  toggle(Page) {
    if (this.stack[0] instanceof Page) this.open([]);
    else this.open([new Page(this)]);
  }

  /** Let this view show another run; what is open below stays open. */
  show(run) {
    this.ask({ ask: "open", run }).catch((error) => this.say(error.message));
  }

  openFailure(failure) {
    if (failure.position == null) this.open([new Tasks(this, failure.process, "failed")]);
    else this.openTask(failure.process, failure.position);
  }

  /** Close what is open, and go back to where it was opened from. */
  openNothing() {
    const name = this.stack[0]?.process;
    this.open([]);
    if (name) this.focusOn(name);
    else (this.opener?.isConnected ? this.opener : this.buttons.lastElementChild).focus();
  }

  /** Not from a field in which something is written: there Escape is the browser's, and nothing shall be lost. */
  escape(event) {
    const held = event.target.matches("input:not([type=checkbox]), textarea") && event.target.value;
    if (event.key === "Escape" && !this.panel.hidden && !held) this.openNothing();
  }

  open(stack) {
    if (!this.stack.length) this.opener = this.focused?.closest(".nb-buttons button");
    this.stack = stack;
    this.refreshDue = 0;
    this.mark(stack[0]?.process);
    this.dirty.head = true; // the buttons say what is open
    this.schedule();
    this.keepFocus(() => {
      this.panel.hidden = !stack.length;
      this.place.replaceChildren(...stack.slice(-1).map((page) => page.root));
      this.titlePanel();
    });
  }

  /** What has the focus here: of a shadow tree, in which some front ends show an output, the document knows the host alone. */
  get focused() { return this.root.getRootNode().activeElement; }

  /** Draw in the panel; where the focus was on what is gone then, the panel has it: the keyboard goes on from there. */
  keepFocus(draw) {
    const inside = this.panel.contains(this.focused);
    draw();
    if (inside && !this.panel.hidden && !this.panel.contains(this.focused)) this.panel.focus({ preventScroll: true });
  }

  titlePanel() {
    this.crumbs.replaceChildren(...this.stack.flatMap((page, at) => {
      const last = at === this.stack.length - 1;
      const name = last ? h("span", { class: "nb-here", "aria-current": "page" }, page.title)
        : h("button", { type: "button", class: "nb-link", onclick: () => this.open(this.stack.slice(0, at + 1)) }, page.title);
      return at ? [h("span", { class: "nb-faint" }, " › "), name] : [name];
    }));
  }

  /** Which run has ended, and how (a resume keeps the name); empty while it goes. */
  get end() { return this.head.going ? "" : `${this.head.run} ${this.head.line}`; }

  /** Keep what is open up to date while a run goes, and once more where one has ended: in less than a tick, too. */
  keepUp() {
    if ((this.head.going || this.end !== this.seen) && this.refresh()) this.seen = this.end;
  }

  /** About once a second, seldomer where an answer takes long; returns whether it was time. */
  refresh() {
    const page = this.stack.at(-1), began = performance.now();
    if (!page?.refresh) return true;
    if (began < (this.refreshDue ?? 0)) return false;
    this.refreshDue = began + SILENCE_MS; // an answer may be lost
    Promise.resolve(page.refresh()).finally(() => {
      const took = performance.now() - began;
      this.refreshDue = began + took + Math.max(900, 3 * took);
    });
    return true;
  }
}
