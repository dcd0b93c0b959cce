// A view of nbcache's runs. It draws what the kernel tells and asks for what a person wants to see;
// it decides nothing. Everything that comes from a cache becomes text nodes and attributes, never
// markup; the one picture that comes as SVG is parsed as XML and taken only as far as ELEMENTS goes.

const SVG = "http://www.w3.org/2000/svg";
const PARTS = ["cached", "done", "failed", "running", "pending"];
const [PENDING, READY, RUNNING, COMMITTING, COMPLETED, CACHED, STORED, FAILED, IGNORED, ABORTED,
  SKIPPED, EXPECTED] = Array(12).keys();
const ELEMENTS = new Set(["svg", "g", "path", "rect", "text", "title"]);

// ------------------------------------------------------------------ small tools

/** Make an element: h("p", {class: "x", onclick: f}, "text", child). */
function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child != null && child !== false));
  return made;
}

function icon(state, paths) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({
    width: 16, height: 16, viewBox: "0 0 16 16", class: `nb-icon-${state}`, "aria-hidden": "true",
  })) svg.setAttribute(name, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", paths[state] ?? "");
  svg.append(path);
  return svg;
}

const number = (value) => value.toLocaleString("en");

function duration(seconds) {
  if (seconds < 0.0995) return `${Math.round(Math.max(seconds, 0) * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

// ------------------------------------------------------------------ counts (as cards.py has them)

const done = (counts) => counts.slice(COMPLETED, EXPECTED).reduce((a, b) => a + b, 0);
const atWork = (counts) => counts[RUNNING] + counts[COMMITTING];
const total = (counts) =>
  Math.max(counts[EXPECTED], counts.slice(0, EXPECTED).reduce((a, b) => a + b, 0));

function phrase(counts) {
  const all = total(counts), ended = done(counts), busy = atWork(counts), known = counts[EXPECTED] >= 0;
  if (known && ended === all && !busy) {
    if (!all) return "no tasks";
    const parts = [`${number(counts[COMPLETED])} ran`, `${number(counts[CACHED])} cached`];
    for (const [index, word] of [[STORED, "stored"], [FAILED, "failed"], [IGNORED, "ignored"],
      [ABORTED, "aborted"], [SKIPPED, "skipped"]])
      if (counts[index]) parts.push(`${number(counts[index])} ${word}`);
    return parts.join(", ");
  }
  const parts = [`${ended}/${known ? all : all || "?"}`];
  if (busy) parts.push(`${busy} running`);
  if (counts[FAILED]) parts.push(`${counts[FAILED]} failed`);
  return parts.join(" · ");
}

const shares = (counts) => ({
  cached: counts[CACHED] + counts[STORED],
  done: counts[COMPLETED],
  failed: counts[FAILED] + counts[IGNORED],
  running: atWork(counts),
  pending: counts[SKIPPED] + counts[ABORTED],
});

function stateOf(counts) {
  const ended = done(counts);
  if (counts[FAILED]) return "failed";
  if (atWork(counts)) return "running";
  if (!ended || ended < total(counts)) return "pending";
  return counts[COMPLETED] ? "done" : "cached";
}

// ------------------------------------------------------------------ the picture

/** The kernel's SVG as elements of this page; anything but shapes and text is left out. */
function pictureOf(text) {
  const parsed = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  const copy = (from) => {
    const to = document.createElementNS(SVG, from.localName);
    for (const { name, value } of from.attributes)
      if (!name.startsWith("on") && !name.includes(":") && name !== "href") to.setAttribute(name, value);
    for (const child of from.childNodes) {
      if (child.nodeType === Node.TEXT_NODE) to.append(child.data);
      else if (ELEMENTS.has(child.localName)) to.append(copy(child));
    }
    return to;
  };
  return copy(parsed);
}

/** One bar per part in a process's box, drawn anew: the kernel's picture has only those in use. */
function barsOf(node) {
  node.querySelectorAll(".nb-part").forEach((bar) => bar.remove());
  const track = node.querySelector(".nb-track");
  return Object.fromEntries(PARTS.map((part) => {
    const bar = track.cloneNode();
    bar.setAttribute("class", `nb-part nb-part-${part}`);
    node.append(bar);
    return [part, bar];
  }));
}

class Picture {
  constructor(choose) {
    this.choose = choose;
    this.scroll = h("div", { class: "nb-scroll" });
    this.zoomed = 1;
    this.zoom = h("div", { class: "nb-zoom", role: "group", "aria-label": "zoom" },
      h("button", { type: "button", "aria-label": "zoom out", onclick: () => this.scale(this.zoomed / 1.25) }, "−"),
      h("button", { type: "button", "aria-label": "fit the picture", onclick: () => this.fit() }, "fit"),
      h("button", { type: "button", "aria-label": "zoom in", onclick: () => this.scale(this.zoomed * 1.25) }, "+"));
    this.root = h("div", { class: "nb-viewport" }, this.scroll, this.zoom);
  }

  load(scene) {
    this.scene = scene;
    this.svg = pictureOf(scene.svg);
    this.svg.setAttribute("role", "group");
    this.svg.setAttribute("aria-label", "pipeline: arrow keys go from process to process, Enter opens its tasks");
    this.size = [Number(this.svg.getAttribute("width")), Number(this.svg.getAttribute("height"))];
    this.nodes = [...this.svg.querySelectorAll(".nb-node")];
    this.counts = [...this.svg.querySelectorAll(".nb-count")];
    this.nodes.forEach((node, index) => {
      node.setAttribute("role", "button");
      node.setAttribute("tabindex", index ? "-1" : "0");
      node.addEventListener("click", () => this.choose(scene.names[index]));
      node.addEventListener("keydown", (event) => this.key(event, index));
    });
    this.parts = this.nodes.map((node) => barsOf(node));
    this.scroll.replaceChildren(this.svg);
    this.zoom.hidden = this.size[0] < 700 && this.size[1] < 440;
    this.scale(1);
  }

  scale(factor) {
    this.zoomed = Math.min(2, Math.max(0.1, factor));
    this.svg.setAttribute("width", this.size[0] * this.zoomed);
    this.svg.setAttribute("height", this.size[1] * this.zoomed);
  }

  fit() {
    this.scale(Math.min(1, (this.scroll.clientWidth - 4) / this.size[0], 456 / this.size[1]));
  }

  key(event, index) {
    const [tails, heads] = [this.scene.before[index], this.scene.after[index]];
    const to = { ArrowRight: heads[0] ?? index + 1, ArrowLeft: tails[0] ?? index - 1,
      ArrowDown: this.beside(index, 1), ArrowUp: this.beside(index, -1),
      Home: 0, End: this.nodes.length - 1 }[event.key];
    if (event.key === "Enter" || event.key === " ") this.choose(this.scene.names[index]);
    else if (to === undefined || !this.nodes[to]) return;
    else this.focus(to);
    event.preventDefault();
  }

  /** The next process below (or above) in the same layer, else in the order of the list. */
  beside(index, step) {
    const [x, y] = this.scene.corners[index];
    const column = this.scene.corners.map(([left, top], at) => ({ left, top, at }))
      .filter(({ left, top }) => Math.abs(left - x) < 1 && (top - y) * step > 0)
      .sort((a, b) => (a.top - b.top) * step);
    return column.length ? column[0].at : index + step;
  }

  focus(index) {
    this.nodes.forEach((node, at) => node.setAttribute("tabindex", at === index ? "0" : "-1"));
    this.nodes[index].focus();
    this.nodes[index].scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  mark(name) {
    this.nodes.forEach((node, at) => node.classList.toggle("nb-chosen", this.scene.names[at] === name));
  }

  node(index, counts) {
    const group = this.nodes[index], state = stateOf(counts), text = phrase(counts);
    const chosen = group.classList.contains("nb-chosen") ? " nb-chosen" : "";
    group.setAttribute("class", `nb-node nb-is-${state}${chosen}`);
    group.setAttribute("aria-label", `${this.scene.names[index]}: ${text}`);
    group.querySelector("title").textContent = `${this.scene.names[index]}: ${text}`;
    group.querySelector(".nb-icon").setAttribute("d", this.scene.icons[state]);
    group.querySelector(".nb-phrase").textContent = text;
    const track = group.querySelector(".nb-track").width.baseVal.value;
    const all = Math.max(1, total(counts)), parts = shares(counts);
    let at = 10;
    for (const part of PARTS) {
      const bar = this.parts[index][part], wide = (track * parts[part]) / all;
      bar.setAttribute("x", at.toFixed(2));
      bar.setAttribute("width", wide.toFixed(2));
      at += wide;
    }
  }

  items(index, count) {
    if (!this.scene.quiet[index]) this.counts[index].textContent = count < 0 ? "" : number(count);
  }
}

// ------------------------------------------------------------------ the view

class View {
  constructor(model, el) {
    this.model = model;
    this.asked = new Map();
    this.nextId = 1;
    this.dirty = { nodes: new Set(), items: new Set(), head: false };
    this.build(el);
    this.hear = (message) => this.take(message);
    model.on("msg:custom", this.hear);
    this.whole(model.get("first"));
    this.ask({ ask: "sync" }).then((answer) => this.whole(answer), () => {});
    this.clock = setInterval(() => this.tick(), 500);
  }

  close() {
    clearInterval(this.clock);
    this.model.off("msg:custom", this.hear);
    this.hide.remove();
  }

  build(el) {
    const twin = String(this.model.get("twin")).replace(/[^\w-]/g, "");
    // The static picture in the output above says the same: hidden for as long as this is here.
    this.hide = h("style");
    this.hide.textContent = `#${twin}, .jp-OutputArea-child:has(#${twin}) { display: none; }`;
    this.sign = h("span");
    this.line = h("span", { class: "nb-line" });
    this.facts = h("span", { class: "nb-facts" });
    this.buttons = h("div", { class: "nb-buttons", role: "toolbar", "aria-label": "run" });
    this.bar = h("div", { class: "nb-bar", role: "progressbar", "aria-label": "tasks done", "aria-valuemin": "0" },
      PARTS.map((part) => h("span", { class: `nb-part-${part}` })));
    this.picture = new Picture((name) => this.choose(name));
    this.lines = h("ul", { class: "nb-lines" });
    this.panel = h("div", { class: "nb-panel", hidden: true });
    this.status = h("div", { class: "nb-status", role: "status", "aria-live": "polite" });
    this.root = h("section", { class: "nbcache-view", "aria-label": "nbcache run", "data-lm-suppress-shortcuts": "true" },
      this.hide,
      h("div", { class: "nb-head" },
        h("div", { class: "nb-title" }, this.sign, h("div", {}, this.line, " ", this.facts)), this.buttons),
      this.bar, this.picture.root, this.lines, this.panel, this.status);
    for (const kind of ["keydown", "keypress", "keyup"])
      this.root.addEventListener(kind, (event) => event.stopPropagation());
    el.append(this.root);
  }

  // ---------------------------------------------------------------- messages

  /** Ask the kernel; the promise holds its answer. */
  ask(message) {
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.asked.set(id, { resolve, reject });
      this.model.send({ ...message, id, page: this.page ??= Math.random().toString(36).slice(2) });
    });
  }

  take(message) {
    if (message.kind === "answer") {
      const waiting = message.page === this.page && this.asked.get(message.id);
      if (!waiting) return;
      this.asked.delete(message.id);
      if (message.error) waiting.reject(new Error(message.error));
      else waiting.resolve(message.answer);
    } else if (message.kind === "whole") {
      this.whole(message);
    } else if (message.kind === "delta" && message.seq > this.seq) {
      if (message.seq === this.seq + 1) this.delta(message);
      else this.ask({ ask: "sync" }).then((answer) => this.whole(answer), () => {});
    }
  }

  whole(message) {
    if (!message?.scene || message.seq < this.seq) return;
    this.seq = message.seq;
    if (this.scene?.svg !== message.scene.svg || this.run !== message.head.run) {
      this.scene = message.scene;
      this.picture.load(message.scene);
    }
    this.run = message.head.run;
    this.head = message.head;
    this.counts = message.counts;
    this.itemCounts = message.items;
    this.counts.forEach((_, index) => this.dirty.nodes.add(index));
    this.itemCounts.forEach((_, index) => this.dirty.items.add(index));
    this.startedAt = performance.now() - 1000 * this.head.elapsed_s;
    this.dirty.head = true;
    this.paint();
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
    if (message.head) {
      Object.assign(this.head, message.head);
      if (message.head.elapsed_s !== undefined)
        this.startedAt = performance.now() - 1000 * this.head.elapsed_s;
    }
    this.dirty.head = true;
    this.frame ??= requestAnimationFrame(() => this.paint());
  }

  // ---------------------------------------------------------------- drawing

  paint() {
    this.frame = undefined;
    for (const index of this.dirty.nodes) this.picture.node(index, this.counts[index]);
    for (const index of this.dirty.items) this.picture.items(index, this.itemCounts[index]);
    this.dirty.nodes.clear();
    this.dirty.items.clear();
    if (this.dirty.head) this.paintHead();
    this.dirty.head = false;
  }

  paintHead() {
    const sum = this.counts.reduce((all, counts) => all.map((n, k) => n + counts[k]), Array(12).fill(0));
    const all = Math.max(1, this.head.total), parts = shares(sum);
    PARTS.forEach((part, at) => { this.bar.children[at].style.width = `${(100 * parts[part]) / all}%`; });
    this.bar.setAttribute("aria-valuemax", this.head.total);
    this.bar.setAttribute("aria-valuenow", Math.min(this.head.done, this.head.total));
    const state = this.runState(sum);
    this.root.className = `nbcache-view nb-is-${state}`;
    this.sign.replaceChildren(icon(state, this.scene.icons), h("span", { class: "nb-hidden-text" }, this.head.status));
    this.line.textContent = this.head.line;
    this.tick();
    this.paintButtons();
    this.paintLines();
  }

  runState(sum) {
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
    const text = parts.join(" · ");
    if (this.facts.textContent !== text) this.facts.textContent = text;
  }

  paintButtons() {
    const key = JSON.stringify(this.head.controls);
    if (key === this.buttonsKey) return;
    this.buttonsKey = key;
    this.buttons.replaceChildren(...this.head.controls.map((control) => h("button", {
      type: "button", title: control.why_not || null, "aria-disabled": control.why_not ? "true" : null,
      "data-ask": control.ask,
      onclick: () => (control.why_not ? this.say(`${control.label}: ${control.why_not}`) : this.press(control)),
    }, control.label)));
  }

  paintLines() {
    const { failures, more_failures, reasons, notes, error } = this.head;
    const key = JSON.stringify([failures, more_failures, reasons, notes, error]);
    if (key === this.linesKey) return;
    this.linesKey = key;
    this.lines.replaceChildren(
      ...failures.map((each) => h("li", { class: "nb-bad" },
        `${each.task} ${each.error}${each.where ? `, ${each.where}` : ""}`)),
      ...(more_failures ? [h("li", {}, `… and ${number(more_failures)} more`)] : []),
      ...(error ? [h("li", { class: "nb-bad" }, error)] : []),
      ...[...reasons, ...notes].map((text) => h("li", {}, text)));
  }

  say(text) {
    this.status.textContent = text;
  }

  // ---------------------------------------------------------------- acting

  press(control) {
    this.say(`${control.label}: asked`);
    const late = setTimeout(() => this.say(`${control.label}: the kernel is busy and has not answered yet`), 3000);
    this.ask({ ask: control.ask, run: this.run }).then(
      (answer) => this.say(answer?.said ?? ""),
      (error) => this.say(error.message),
    ).finally(() => clearTimeout(late));
  }

  choose(name) {
    this.picture.mark(name);
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    return () => view.close();
  },
};
