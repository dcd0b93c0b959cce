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
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
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

const LEGEND = { pending: "waiting", running: "running", done: "ran", cached: "cached", failed: "failed" };

const fit = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

class Picture {
  constructor(choose, moved) {
    this.choose = choose;
    this.moved = moved;
    this.scroll = h("div", { class: "nb-scroll", onscroll: () => moved() });
    this.zoomed = 1;
    this.zoom = h("div", { class: "nb-zoom", role: "group", "aria-label": "zoom" },
      h("button", { type: "button", "aria-label": "zoom out", onclick: () => this.scale(this.zoomed / 1.25) }, "−"),
      h("button", { type: "button", "aria-label": "fit the picture", onclick: () => this.fit() }, "fit"),
      h("button", { type: "button", "aria-label": "zoom in", onclick: () => this.scale(this.zoomed * 1.25) }, "+"));
    this.legend = h("div", { class: "nb-legend" });
    this.root = h("div", { class: "nb-viewport" }, this.scroll, h("div", { class: "nb-below" }, this.legend, this.zoom));
    this.watching = new ResizeObserver(() => this.offerZoom());
    this.watching.observe(this.scroll);
  }

  /** The buttons are there where the picture, as large as it is meant, has no room. */
  offerZoom() {
    if (!this.size || !this.scroll.clientWidth) return;
    if (!this.arranged) this.arrange();
    this.moved();
    this.zoom.hidden = this.size[0] <= this.scroll.clientWidth && this.size[1] <= 460;
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
    this.svg.classList.toggle("nb-few", this.nodes.length <= 40); // hundreds of moving icons cost more than all else
    this.scroll.replaceChildren(this.svg);
    fill(this.legend, ...Object.entries(LEGEND).map(([state, word]) => h("span", { class: "nb-state" }, icon(state, scene.icons), h("span", {}, word))));
    this.arranged = false;
    this.offerZoom();
  }

  /** As large as it is meant, or a little smaller where it then has room; from its first process. */
  arrange() {
    this.arranged = true;
    const fits = this.scroll.clientWidth / this.size[0];
    this.scale(fits < 1 && fits > 0.7 ? fits : 1);
    if (this.size[1] > 460 && this.scene.corners.length) this.scroll.scrollTop = this.scene.corners[0][1] - 60;
  }

  scale(factor) {
    this.zoomed = Math.min(2, Math.max(0.05, factor));
    this.svg.setAttribute("width", this.size[0] * this.zoomed);
    this.svg.setAttribute("height", this.size[1] * this.zoomed);
    this.moved();
  }

  /** What part of the picture is in sight, with a margin: only that is kept up to date. */
  window() {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.scroll;
    const [left, top, right, bottom] = [scrollLeft - 300, scrollTop - 100, scrollLeft + clientWidth + 50, scrollTop + clientHeight + 50]
      .map((pixels) => pixels / this.zoomed);
    return ([x, y]) => x >= left && x <= right && y >= top && y <= bottom;
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
    const track = group.querySelector(".nb-track").width.baseVal.value;
    group.querySelector(".nb-phrase").textContent = fit(text, Math.floor(track / 6.4));
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

// ------------------------------------------------------------------ text in colour

const WORDS = {
  python: "and as assert async await break case class continue def del elif else except False finally for from global if import in is lambda match None nonlocal not or pass raise return True try while with yield",
  bash: "case do done elif else esac export fi for function if in local return set then while",
};

/** Source as spans: comments, strings, numbers, keywords. Anything it does not know stays plain. */
function coloured(text, language) {
  const words = new Set((WORDS[language] ?? WORDS.bash).split(" "));
  const found = document.createDocumentFragment();
  const token = /(#[^\n]*)|("""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(\b\d[\w.]*)|([A-Za-z_]\w*)/g;
  let at = 0;
  for (const match of text.matchAll(token)) {
    const kind = match[1] ? "comment" : match[2] ? "string" : match[3] ? "number"
      : words.has(match[4]) ? "word" : null;
    if (!kind) continue;
    found.append(text.slice(at, match.index), h("span", { class: `nb-${kind}` }, match[0]));
    at = match.index + match[0].length;
  }
  found.append(text.slice(at));
  return found;
}

/** A unified diff, a line each: its sign says the same as the colour. */
function diffOf(text, language) {
  return h("pre", { class: "nb-code nb-diff", tabindex: "0", "aria-label": "difference" },
    text.split("\n").map((line) => {
      const sign = line.startsWith("@@") || line.startsWith("---") || line.startsWith("+++") ? "@" : line[0];
      const kind = { "+": "new", "-": "old", "@": "place" }[sign];
      const body = kind === "place" ? line : coloured(line.slice(1), language);
      return h("span", { class: kind ? `nb-${kind}-line` : null }, kind === "place" ? "" : line.slice(0, 1), body, "\n");
    }));
}

const size = (bytes) => {
  if (bytes < 1000) return `${bytes} B`;
  let power = 1;
  while (power < 5 && bytes / 1000 ** power >= 999.5) power += 1;
  const value = bytes / 1000 ** power;
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${["", "kB", "MB", "GB", "TB", "PB"][power]}`;
};

const LOOKS = { completed: "done", cached: "cached", stored: "cached", failed: "failed", ignored: "failed",
  running: "running", succeeded: "done" };
const lookOf = (status) => LOOKS[status] ?? "pending";

/** An icon and the word of a status. */
const statusOf = (status, icons) =>
  h("span", { class: "nb-state" }, icon(lookOf(status), icons), h("span", {}, status));

function later(act, wait) {
  let timer;
  return (...values) => { clearTimeout(timer); timer = setTimeout(() => act(...values), wait); };
}

// ------------------------------------------------------------------ the tasks of a process

const COLUMNS = [["status", "status"], ["task", "task"], ["duration", "took"], ["memory", "memory"], ["why", "why"]];
const PAGE = 20;

class Tasks {
  constructor(view, process, status = "") {
    this.view = view;
    this.process = process;
    this.query = { sort: "task", descending: false, text: "", status, offset: 0, limit: PAGE };
    this.search = h("input", { type: "search", placeholder: "filter by tag, input, error …", "aria-label": `filter the tasks of ${process}`,
      oninput: later(() => this.change({ text: this.search.value, offset: 0 }), 200) });
    this.which = h("select", { "aria-label": "status", onchange: () => this.change({ status: this.which.value, offset: 0 }) });
    this.body = h("tbody");
    this.heads = COLUMNS.map(([key, label]) => h("th", { scope: "col", class: `nb-col-${key}` },
      h("button", { type: "button", class: "nb-sort", onclick: () => this.change({ sort: key, offset: 0,
        descending: this.query.sort === key && !this.query.descending }) }, label)));
    this.count = h("span", { class: "nb-faint", "aria-live": "polite" });
    this.back = h("button", { type: "button", onclick: () => this.change({ offset: Math.max(0, this.query.offset - PAGE) }) }, "Previous");
    this.on = h("button", { type: "button", onclick: () => this.change({ offset: this.query.offset + PAGE }) }, "Next");
    this.empty = h("p", { class: "nb-empty", hidden: true });
    const from = h("button", { type: "button", title: `a new run in which ${process} and all below it run again`,
      onclick: () => this.view.open([new Form(this.view, process)]) }, "Run from here…");
    this.root = h("div", { class: "nb-tasks" },
      h("div", { class: "nb-tools" }, this.search, this.which, from, h("span", { class: "nb-space" }), this.count, this.back, this.on),
      h("div", { class: "nb-table-scroll", tabindex: "0", role: "region", "aria-label": `tasks of ${process}` },
        h("table", {}, h("thead", {}, h("tr", {}, this.heads)), this.body)),
      this.empty);
    this.load();
  }

  get title() { return this.process; }

  change(query) {
    Object.assign(this.query, query);
    this.load();
  }

  async load() {
    const asked = (this.asked = {});
    try {
      const page = await this.view.ask({ ask: "tasks", process: this.process, ...this.query });
      if (asked === this.asked) this.show(page);
    } catch (error) {
      if (asked === this.asked) this.note(error.message);
    }
  }

  /** Called about once a second while the run goes. */
  refresh() { return this.root.isConnected ? this.load() : undefined; }

  note(text) {
    this.empty.hidden = !text;
    this.empty.textContent = text;
  }

  show(page) {
    const { icons } = this.view.scene;
    const options = [["", "all"], ...Object.entries(page.statuses).map(([name, n]) => [name, `${name} (${number(n)})`])];
    if (this.query.status && !(this.query.status in page.statuses)) options.push([this.query.status, this.query.status]);
    this.which.replaceChildren(...options.map(([value, text]) => h("option", { value, selected: value === this.query.status }, text)));
    this.heads.forEach((head, at) => {
      const mine = COLUMNS[at][0] === this.query.sort;
      head.setAttribute("aria-sort", !mine ? "none" : this.query.descending ? "descending" : "ascending");
    });
    const rows = [
      ...page.running.map((each) => this.row(each, "running", `for ${duration(each.seconds)}`, "", each.attempt > 1 ? `attempt ${each.attempt}` : "")),
      ...page.rows.map((each) => this.row(each, each.status,
        each.duration != null ? duration(each.duration) : each.saved != null ? `saved ${duration(each.saved)}` : "",
        each.memory ? size(each.memory) : "", each.why)),
    ];
    const focused = this.body.contains(document.activeElement) && document.activeElement.dataset.position;
    this.body.replaceChildren(...rows);
    if (focused) this.body.querySelector(`[data-position="${CSS.escape(focused)}"]`)?.focus();
    const from = page.matched ? page.offset + 1 : 0, to = Math.min(page.offset + PAGE, page.matched);
    const of = page.matched === page.total ? number(page.total) : `${number(page.matched)} of ${number(page.total)}`;
    this.count.textContent = page.matched > PAGE ? `${number(from)}–${number(to)} of ${of}` : page.matched === page.total ? "" : of;
    this.back.hidden = this.on.hidden = page.matched <= PAGE && !page.offset;
    this.back.disabled = !page.offset;
    this.on.disabled = to >= page.matched;
    this.note(rows.length ? "" : page.total ? "No task fits the filter." : "No task has ended yet.");
  }

  row(each, status, took, memory, why) {
    const open = () => this.view.openTask(this.process, each.position);
    return h("tr", { onclick: (event) => { if (event.target.closest("button") == null) open(); } },
      h("td", {}, statusOf(status, this.view.scene.icons)),
      h("td", { class: "nb-col-task" }, h("button", { type: "button", class: "nb-link", title: each.label, "data-position": each.position, onclick: open }, inner(each.label))),
      h("td", { class: "nb-number" }, took), h("td", { class: "nb-number" }, memory),
      h("td", { class: "nb-col-why", title: why || null }, why));
  }
}

/** Put these in place of what is there; what is null is left out. */
const fill = (element, ...children) => element.replaceChildren(...children.filter((child) => child != null));

/** "depth=8 rep=1" of "fit[depth=8 rep=1]": the table is of one process. */
function inner(label) {
  const at = label.indexOf("[");
  return at > 0 && label.endsWith("]") ? label.slice(at + 1, -1) : label;
}

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
      h("div", { class: "nb-table-scroll", tabindex: "0", role: "region", "aria-label": "processes" }, h("table", {},
        h("thead", {}, h("tr", {}, ["process", "state", "tasks", "reads from"].map((text) => h("th", { scope: "col" }, text)))), this.body)));
    this.refresh();
  }

  turn(by) {
    this.offset = Math.max(0, this.offset + by);
    this.refresh();
  }

  refresh() {
    const { names, before, icons } = this.view.scene, wanted = this.search.value.toLowerCase();
    const rows = names.map((name, index) => ({ name, index, counts: this.view.counts[index] }))
      .map((row) => ({ ...row, state: stateOf(row.counts), text: phrase(row.counts) }))
      .filter(({ name, state, text }) => `${name} ${state} ${text}`.toLowerCase().includes(wanted));
    const focused = this.body.contains(document.activeElement) && document.activeElement.textContent;
    this.body.replaceChildren(...rows.slice(this.offset, this.offset + PAGE).map(({ name, index, state, text }) => h("tr", {},
      h("td", {}, h("button", { type: "button", class: "nb-link", onclick: () => this.view.choose(name) }, name)),
      h("td", {}, statusOf(state, icons)), h("td", {}, text),
      h("td", { class: "nb-col-why" }, before[index].map((tail) => names[tail]).join(", ")))));
    if (focused) [...this.body.querySelectorAll("button")].find((each) => each.textContent === focused)?.focus();
    this.back.hidden = this.on.hidden = rows.length <= PAGE;
    this.back.disabled = !this.offset;
    this.on.disabled = this.offset + PAGE >= rows.length;
    this.count.textContent = rows.length <= PAGE ? "" : `${this.offset + 1}–${Math.min(this.offset + PAGE, rows.length)} of ${number(rows.length)}`;
  }
}

// ------------------------------------------------------------------ one task

class Task {
  constructor(view, process, position) {
    this.view = view;
    this.process = process;
    this.position = position;
    this.title = `${process}[${position}]`;
    this.root = h("div", { class: "nb-task" }, h("p", { class: "nb-empty" }, "…"));
    this.load();
  }

  ask(what) { return this.view.ask({ ask: what, process: this.process, position: this.position }); }

  async load() {
    try {
      this.show(await this.ask("task"));
    } catch (error) {
      this.root.replaceChildren(h("p", { class: "nb-empty" }, error.message));
    }
  }

  refresh() {
    const moves = this.status === undefined || this.status === "running";
    return this.root.isConnected && moves ? this.load() : undefined;
  }

  show(detail) {
    const again = this.status !== undefined;
    const changed = this.status !== detail.status;
    this.status = detail.status;
    if (again && !changed) { this.loadLog(); return; }
    this.title = detail.label;
    this.view.titlePanel();
    this.log ??= h("div", { class: "nb-log" });
    this.why = h("div", { class: "nb-why" }, detail.status === "running" ? "it runs now" : "…");
    const table = (rows, ...heads) => h("div", { class: "nb-table-scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", { class: "nb-value" }, cell)))))));
    fill(this.root,
      h("div", { class: "nb-facts-line" }, statusOf(detail.status, this.view.scene.icons),
        ...detail.facts.map(([name, value]) => h("span", {}, h("span", { class: "nb-faint" }, `${name} `), value)),
        detail.hash ? h("span", {}, h("span", { class: "nb-faint" }, "hash "), h("code", { title: detail.hash }, detail.hash.split(":").pop().slice(0, 8))) : null),
      detail.error ? section("Error", h("pre", { class: "nb-code nb-error", tabindex: "0" }, detail.traceback || detail.error)) : null,
      section("Why", this.why),
      section("Log", this.log),
      detail.inputs.length ? section("Inputs", table(detail.inputs.map((each) => [each.name, each.value]), "name", "value")) : null,
      detail.outputs.length ? section("Outputs", table(detail.outputs.map((each) => [each.name, each.value, each.digest.split(":").pop().slice(0, 8)]), "name", "value", "digest")) : null,
      detail.source ? section(detail.language === "python" ? "Source" : "Command",
        h("pre", { class: "nb-code", tabindex: "0" }, coloured(detail.source, detail.language)), detail.cell) : null,
      detail.components.length ? section("Fingerprint",
        table(detail.components.map((each) => [each.kind, each.name, each.summary, each.digest]), "kind", "name", "what", "digest"),
        `${detail.components.length} components`, false) : null);
    this.loadLog();
    if (detail.status !== "running") this.loadWhy();
  }

  async loadLog() {
    let answer;
    try { answer = await this.ask("log"); } catch (error) { answer = { chunks: [{ stream: "stderr", text: error.message }] }; }
    const key = JSON.stringify(answer.chunks);
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
    try { why = await this.ask("why"); } catch (error) { this.why.replaceChildren(error.message); return; }
    fill(this.why,
      h("p", { class: "nb-why-head" }, why.head),
      why.lines.length ? h("ul", { class: "nb-lines" }, why.lines.map((line) => h("li", {}, line.trim()))) : null,
      ...why.diffs.map((each) => h("details", { open: true }, h("summary", {}, each.title), diffOf(each.text, "python"))));
  }
}

/** A part of a task's page that folds. */
function section(title, content, remark = "", open = true) {
  return h("details", { class: "nb-section", open },
    h("summary", {}, h("span", { class: "nb-section-title" }, title), remark ? h("span", { class: "nb-faint" }, ` ${remark}`) : null),
    content);
}

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

// ------------------------------------------------------------------ all runs, and two compared

const RUNS = 12;

class Runs {
  constructor(view) {
    this.view = view;
    this.title = "runs";
    this.chosen = [];
    this.query = { text: "", offset: 0, limit: RUNS };
    this.search = h("input", { type: "search", placeholder: "filter by name, parameter …", "aria-label": "filter the runs",
      oninput: later(() => this.load({ text: this.search.value, offset: 0 }), 200) });
    this.compare = h("button", { type: "button", onclick: () => this.diff() }, "Compare");
    this.hint = h("span", { class: "nb-faint", "aria-live": "polite" });
    this.back = h("button", { type: "button", onclick: () => this.load({ offset: Math.max(0, this.query.offset - RUNS) }) }, "Newer");
    this.on = h("button", { type: "button", onclick: () => this.load({ offset: this.query.offset + RUNS }) }, "Older");
    this.body = h("tbody");
    this.empty = h("p", { class: "nb-empty", hidden: true });
    this.root = h("div", { class: "nb-runs" },
      h("div", { class: "nb-tools" }, this.search, this.compare, this.hint, h("span", { class: "nb-space" }), this.back, this.on),
      h("div", { class: "nb-table-scroll", tabindex: "0", role: "region", "aria-label": "runs" }, h("table", {},
        h("thead", {}, h("tr", {}, ["", "run", "status", "when", "took", "tasks", "parameters"].map((text) =>
          h("th", { scope: "col" }, text || h("span", { class: "nb-hidden-text" }, "compare"))))), this.body)),
      this.empty);
    this.mark();
    this.load({});
  }

  async load(query) {
    Object.assign(this.query, query);
    try {
      const page = await this.view.ask({ ask: "runs", ...this.query });
      this.body.replaceChildren(...page.rows.map((row) => this.row(row)));
      this.back.hidden = this.on.hidden = page.matched <= RUNS;
      this.back.disabled = !page.offset;
      this.on.disabled = page.offset + RUNS >= page.matched;
      this.empty.hidden = page.rows.length > 0;
      this.empty.textContent = page.total ? "No run fits the filter." : "There are no runs yet.";
    } catch (error) {
      this.empty.hidden = false;
      this.empty.textContent = error.message;
    }
  }

  row(run) {
    const mine = run.run === this.view.run;
    const tick = h("input", { type: "checkbox", "aria-label": `compare ${run.name}`, checked: this.chosen.some((each) => each.run === run.run),
      onchange: () => this.tick(run, tick.checked) });
    return h("tr", { class: mine ? "nb-mine" : null }, h("td", {}, tick),
      h("td", {}, h("button", { type: "button", class: "nb-link", title: "show this run above", onclick: () => this.view.show(run.run) }, run.name), mine ? h("span", { class: "nb-faint" }, " shown") : null),
      h("td", {}, statusOf(run.status, this.view.scene.icons)), h("td", {}, run.when), h("td", {}, run.took), h("td", {}, run.tasks),
      h("td", { class: "nb-col-why", title: run.parameters || null }, run.parameters));
  }

  tick(run, on) {
    this.chosen = this.chosen.filter((each) => each.run !== run.run);
    if (on) this.chosen.push(run);
    if (this.chosen.length > 2) {
      const gone = this.chosen.shift();
      this.body.querySelectorAll("input").forEach((box) => {
        if (box.getAttribute("aria-label") === `compare ${gone.name}`) box.checked = false;
      });
    }
    this.mark();
  }

  mark() {
    const ready = this.chosen.length === 2;
    this.compare.setAttribute("aria-disabled", ready ? "false" : "true");
    this.hint.textContent = ready ? "" : this.chosen.length ? "tick one more run" : "tick two runs to compare them";
  }

  diff() {
    if (this.chosen.length !== 2) { this.view.say("Compare: tick two runs first"); return; }
    const [before, after] = [...this.chosen].sort((a, b) => (a.run < b.run ? -1 : 1)); // ids begin with the time
    this.view.open([this, new Diff(this.view, before, after)]);
  }
}

class Diff {
  constructor(view, before, after) {
    this.view = view;
    this.runs = { before: before.run, after: after.run };
    this.title = `${before.name} → ${after.name}`;
    this.root = h("div", { class: "nb-compare" }, h("p", { class: "nb-empty" }, "…"));
    this.load(false);
  }

  async load(data) {
    try {
      this.show(await this.view.ask({ ask: "diff", data, ...this.runs }));
    } catch (error) {
      this.root.replaceChildren(h("p", { class: "nb-empty" }, error.message));
    }
  }

  show(diff) {
    const told = diff.processes.filter((each) => !each.unchanged);
    const quiet = diff.processes.filter((each) => each.unchanged);
    const differ = diff.processes.some((each) => each.different);
    const facts = [...diff.parameters.map(([name, old, now]) => `parameter ${name}: ${old ?? "–"} → ${now ?? "–"}`), ...diff.packages];
    fill(this.root,
      h("p", { class: "nb-why-head" }, `${diff.before.tasks || diff.before.status} (${diff.before.when}) → ${diff.after.tasks || diff.after.status} (${diff.after.when})`),
      facts.length ? h("ul", { class: "nb-lines" }, facts.map((text) => h("li", {}, text))) : null,
      ...told.map((each) => this.process(each)),
      quiet.length ? h("p", { class: "nb-faint" }, `Equal: ${quiet.map((each) => `${each.name} (${number(each.total)})`).join(", ")}`) : null,
      !told.length && !facts.length ? h("p", {}, "Nothing differs, and nothing ran again.") : null,
      differ && !diff.data ? h("div", { class: "nb-tools" }, h("button", { type: "button", onclick: () => this.load(true) }, "Compare the results that differ")) : null);
  }

  process(each) {
    const names = ({ count, labels }) => `${labels.slice(0, 8).map(inner).join(", ")}${count > 8 ? ` and ${number(count - 8)} more` : ""}`;
    const head = each.gone ? "only in the earlier run" : `${number(each.ran)} of ${number(each.total)} ran again`;
    const outcome = [];
    if (each.different) outcome.push(`${number(each.different)} came out different`);
    if (each.equal) outcome.push(`${number(each.equal)} came out equal`);
    if (each.missing) outcome.push(`${number(each.missing)} without a result to compare`);
    return h("details", { class: "nb-section", open: true },
      h("summary", {}, h("code", { class: "nb-section-title" }, each.name), h("span", {}, `  ${head}`),
        each.was && each.was !== each.name ? h("span", { class: "nb-faint" }, ` (it was called ${each.was})`) : null,
        h("span", { class: "nb-faint" }, outcome.length ? ` · ${outcome.join(", ")}` : "")),
      each.groups.map((group) => h("div", { class: "nb-group" },
        h("p", {}, h("b", {}, group.text), h("span", { class: "nb-faint" }, ` — ${number(group.tasks.count)} ${group.tasks.count === 1 ? "task" : "tasks"}: ${names(group.tasks)}`)),
        group.values.length > 3 ? h("ul", { class: "nb-lines" }, group.values.map((line) => h("li", {}, line.trim()))) : null,
        group.sources.map((source) => h("details", { open: true }, h("summary", {}, source.title), diffOf(source.text, "python"))))),
      each.more_groups ? h("p", { class: "nb-faint" }, `… and ${number(each.more_groups)} more reasons`) : null,
      each.only_before.count ? h("p", {}, `Only before: ${names(each.only_before)}`) : null,
      each.only_after.count ? h("p", {}, `Only after: ${names(each.only_after)}`) : null,
      each.unexplained ? h("p", { class: "nb-bad-text" }, "Though nothing that is hashed differs: is there randomness without a seed, or a read that is not declared?") : null,
      each.results.length ? h("div", { class: "nb-table-scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, ["task", "output", "before → now"].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, each.results.map((result) => h("tr", {}, h("td", {}, h("code", {}, inner(result.task))), h("td", {}, h("code", {}, result.output)),
          h("td", { class: "nb-value" }, result.head, result.text ? diffOf(result.text, "none") : null)))))) : null,
      each.left ? h("p", { class: "nb-faint" }, `… and ${number(each.left)} more tasks: %nbcache diff --data --limit N`) : null);
  }
}

// ------------------------------------------------------------------ the view

class View {
  constructor(model, el) {
    this.model = model;
    this.asked = new Map();
    this.key = `nb-${Math.random().toString(36).slice(2)}`;
    this.stack = []; // what is open below the picture, the last one on top
    this.nextId = 1;
    this.dirty = { nodes: new Set(), items: new Set(), head: false };
    this.build(el);
    this.hear = (message) => this.take(message);
    model.on("msg:custom", this.hear);
    this.whole(model.get("first"));
    this.sync();
    if (model.get("page") === "runs") this.toggle(Runs);
    this.clock = setInterval(() => this.tick(), 500);
  }

  close() {
    clearInterval(this.clock);
    clearTimeout(this.syncLater);
    this.model.off("msg:custom", this.hear);
    this.picture.watching.disconnect();
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
    for (const kind of ["pointerenter", "focusin"]) this.buttons.addEventListener(kind, () => this.sync());
    this.bar = h("div", { class: "nb-bar", role: "progressbar", "aria-label": "tasks done", "aria-valuemin": "0" },
      PARTS.map((part) => h("span", { class: `nb-part-${part}` })));
    this.picture = new Picture((name) => this.choose(name), () => this.schedule());
    this.lines = h("ul", { class: "nb-lines" });
    this.crumbs = h("nav", { class: "nb-crumbs", "aria-label": "where you are" });
    this.place = h("div");
    this.panel = h("section", { class: "nb-panel", hidden: true, "aria-label": "details" },
      h("div", { class: "nb-panel-head" }, this.crumbs,
        h("button", { type: "button", class: "nb-close", "aria-label": "close", onclick: () => this.openNothing() }, "×")),
      this.place);
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
      this.model.send({ ...message, id, page: this.key });
    });
  }

  take(message) {
    if (message.kind === "answer") {
      const waiting = message.page === this.key && this.asked.get(message.id);
      if (!waiting) return;
      this.asked.delete(message.id);
      if (message.error) waiting.reject(new Error(message.error));
      else waiting.resolve(message.answer);
    } else if (message.kind === "whole") {
      this.whole(message);
    } else if (message.kind === "delta" && message.seq > this.seq) {
      if (message.seq === this.seq + 1) this.delta(message);
      else this.sync();
    }
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
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => this.paint());
  }

  // ---------------------------------------------------------------- drawing

  paint() {
    this.frame = undefined;
    const seen = this.picture.window();
    for (const index of this.dirty.nodes) {
      if (!seen(this.scene.corners[index])) continue; // until somebody looks there
      this.picture.node(index, this.counts[index]);
      this.dirty.nodes.delete(index);
    }
    for (const index of this.dirty.items) this.picture.items(index, this.itemCounts[index]);
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
    if (this.head.elsewhere && this.head.going) this.sync();
    if (this.head.going || this.wasGoing) this.refresh();
    this.wasGoing = this.head.going;
    const text = parts.join(" · ");
    if (this.facts.textContent !== text) this.facts.textContent = text;
  }

  paintButtons() {
    const key = JSON.stringify(this.head.controls);
    if (key === this.buttonsKey) return;
    this.buttonsKey = key;
    const act = (control) => {
      if (control.why_not) this.say(`${control.label.replace("…", "")}: ${control.why_not}`);
      else if (control.ask === "form") this.toggle(Form);
      else this.press(control);
    };
    this.buttons.replaceChildren(
      ...this.head.controls.map((control) => h("button", {
        type: "button", title: control.why_not || null, "aria-disabled": control.why_not ? "true" : null,
        class: control.ask === "resume" && !control.why_not ? "nb-first" : null, onclick: () => act(control),
      }, control.label)),
      h("button", { type: "button", onclick: () => this.toggle(Processes) }, "Table"),
      h("button", { type: "button", onclick: () => this.toggle(Runs) }, "Runs"));
  }

  paintLines() {
    const { failures, more_failures, reasons, notes, error } = this.head;
    const key = JSON.stringify([failures, more_failures, reasons, notes, error]);
    if (key === this.linesKey) return;
    this.linesKey = key;
    this.lines.replaceChildren(
      ...failures.map((each) => h("li", { class: "nb-bad" },
        h("button", { type: "button", class: "nb-link", onclick: () => this.openFailure(each) }, each.task),
        ` ${each.error}${each.where ? `, ${each.where}` : ""}`)),
      ...(more_failures ? [h("li", {}, `… and ${number(more_failures)} more`)] : []),
      ...(error ? [h("li", { class: "nb-bad" }, error)] : []),
      ...[...reasons, ...notes].map((text) => h("li", {}, text)));
  }

  say(text) {
    this.status.textContent = text;
  }

  // ---------------------------------------------------------------- acting

  press({ label, why_not: _, ...question }) {
    this.say(`${label}: asked`);
    const late = setTimeout(() => this.say(`${label}: the kernel is busy with a cell and has not heard it yet`), 4000);
    this.ask(question).then(
      (answer) => this.say(answer?.said ?? ""),
      (error) => this.say(error.message),
    ).finally(() => clearTimeout(late));
  }

  // ---------------------------------------------------------------- what is open below the picture

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

  openNothing() {
    const name = this.stack[0]?.process;
    this.open([]);
    const index = this.scene.names.indexOf(name);
    if (index >= 0) this.picture.focus(index);
  }

  open(stack) {
    this.stack = stack;
    this.refreshDue = 0;
    this.picture.mark(stack[0]?.process);
    this.panel.hidden = !stack.length;
    this.place.replaceChildren(...stack.slice(-1).map((page) => page.root));
    this.titlePanel();
  }

  titlePanel() {
    this.crumbs.replaceChildren(...this.stack.flatMap((page, at) => {
      const last = at === this.stack.length - 1;
      const name = last ? h("span", { class: "nb-here", "aria-current": "page" }, page.title)
        : h("button", { type: "button", class: "nb-link", onclick: () => this.open(this.stack.slice(0, at + 1)) }, page.title);
      return at ? [h("span", { class: "nb-faint" }, " › "), name] : [name];
    }));
  }

  /** Keep what is open up to date: about once a second, seldomer where an answer takes long. */
  refresh() {
    const page = this.stack.at(-1), began = performance.now();
    if (!page?.refresh || began < (this.refreshDue ?? 0)) return;
    this.refreshDue = Infinity;
    Promise.resolve(page.refresh()).finally(() => {
      const took = performance.now() - began;
      this.refreshDue = began + took + Math.max(900, 3 * took);
    });
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    return () => view.close();
  },
};
