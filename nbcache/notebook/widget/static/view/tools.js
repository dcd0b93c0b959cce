// A view of nbcache's runs. It draws what the kernel tells and asks for what a person wants to see;
// it decides nothing. Everything that comes from a cache becomes text nodes and attributes, never
// markup; the one picture that comes as SVG is parsed as XML and taken only as far as ELEMENTS goes.

const SVG = "http://www.w3.org/2000/svg";
const PARTS = ["cached", "done", "failed", "running", "pending"];
const [PENDING, READY, RUNNING, COMMITTING, COMPLETED, CACHED, STORED, FAILED, IGNORED, ABORTED,
  SKIPPED, EXPECTED, EQUAL] = Array(13).keys();
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

/** Put these in place of what is there; what is null is left out. */
const fill = (element, ...children) => element.replaceChildren(...children.filter((child) => child != null));

/** Let these be the children. What stays is not moved, so that a click or a selection on it goes on. */
function arrange(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.childNodes]) if (!wanted.has(child)) child.remove();
  let at = parent.firstChild;
  for (const child of children) {
    if (child === at) at = at.nextSibling;
    else parent.insertBefore(child, at);
  }
}

/** What stands where a list is empty; no text: nothing. */
const note = (element, text) => { element.hidden = !text; element.textContent = text; };

/** What stands where an answer was to be that could not be given. */
const unanswered = (error, again) => h("p", { class: "nb-empty" }, `${error.message} `, h("button", { type: "button", class: "nb-link", onclick: again }, "ask again"));

const allow = (button, may) => button.setAttribute("aria-disabled", may ? "false" : "true");

/** The buttons that turn the pages of a list. At the last page a button keeps the focus, which one that is disabled would lose. */
class Pager {
  constructor(size, turn, labels = ["Previous", "Next"]) {
    this.size = size;
    this.count = h("span", { class: "nb-faint", "aria-live": "polite" });
    [this.back, this.on] = labels.map((label, at) => h("button", { type: "button", hidden: true,
      onclick: ({ currentTarget }) => { if (currentTarget.getAttribute("aria-disabled") !== "true") turn(at ? size : -size); } }, label));
    this.root = h("div", { class: "nb-pager" }, this.count, this.back, this.on);
  }

  show(offset, matched, text = "") {
    this.count.textContent = text;
    this.back.hidden = this.on.hidden = matched <= this.size && !offset;
    allow(this.back, offset > 0);
    allow(this.on, offset + this.size < matched);
  }
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const END = 12; // characters of a long label that are always seen: labels often differ there

const LEFTWARD = /[\u0590-\u08ff\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufeff]/; // in two parts it would read in another order

/** A label, in one line, that is shortened in its middle where it has no room. */
function middle(label) {
  const text = label.replace(/\s/g, " "), letters = [...text]; // a letter may be two of JavaScript's characters
  const which = letters.length - letters.indexOf("["), end = which <= 2 * END && text.endsWith("]") ? which : END; // "[plate=P1 well=3]" stays whole
  return letters.length <= end + 4 || LEFTWARD.test(text) ? [h("span", { class: "nb-start" }, text)]
    : [h("span", { class: "nb-start" }, letters.slice(0, -end).join("")), h("span", { class: "nb-end" }, letters.slice(-end).join(""))];
}

const MOST = 240; // characters of an error in a list

/** An error that leaves room for what follows it; its own page has all of it. */
const brief = (error) => (error.length > MOST ? `${error.slice(0, MOST)}…` : error);

/** "depth=8 rep=1" of "fit[depth=8 rep=1]": the table is of one process. */
function inner(label) {
  const at = label.indexOf("[");
  return at > 0 && label.endsWith("]") ? label.slice(at + 1, -1) : label;
}

const size = (bytes) => {
  if (bytes < 1000) return `${bytes} B`;
  let power = 1;
  while (power < 5 && bytes / 1000 ** power >= 999.5) power += 1;
  const value = bytes / 1000 ** power;
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${["", "kB", "MB", "GB", "TB", "PB"][power]}`;
};

function later(act, wait) {
  let timer;
  return (...values) => { clearTimeout(timer); timer = setTimeout(() => act(...values), wait); };
}
