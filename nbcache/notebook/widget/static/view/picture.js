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
