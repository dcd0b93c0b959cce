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

/** A phrase of counts; without room it begins with what went wrong, and says no zeros (as scene.py has it). */
function fit(text, most) {
  if (text.length <= most) return text;
  const joint = text.includes(" · ") ? " · " : ", ", rank = (part) => (part.includes("/") ? 0 : part.endsWith("failed") ? 1 : 2);
  const brief = text.split(joint).filter((part) => !part.startsWith("0 ")).sort((a, b) => rank(a) - rank(b)).join(joint);
  return brief.length <= most ? brief : `${brief.slice(0, most - 1)}…`;
}

class Picture {
  /** `choose` opens a process, `fold` folds or unfolds a group, `moved` draws what came in sight. */
  constructor({ choose, fold, moved }) {
    Object.assign(this, { choose, fold, moved });
    this.scroll = h("div", { class: "nb-scroll", onscroll: () => moved() });
    this.zoomed = 1;
    this.zoom = h("div", { class: "nb-zoom", role: "group", "aria-label": "zoom" },
      h("button", { type: "button", "aria-label": "zoom out", onclick: () => this.scale(this.zoomed / 1.25) }, "−"),
      h("button", { type: "button", "aria-label": "fit the picture", onclick: () => this.fit() }, "fit"),
      h("button", { type: "button", "aria-label": "zoom in", onclick: () => this.scale(this.zoomed * 1.25) }, "+"));
    this.legend = h("div", { class: "nb-legend" });
    this.folds = h("div", { class: "nb-folds", role: "group", "aria-label": "groups that are unfolded" });
    this.root = h("div", { class: "nb-viewport" }, this.scroll,
      h("div", { class: "nb-below" }, this.legend, this.zoom), this.folds);
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
    const again = this.scene?.names.join("\n") === scene.names.join("\n"); // the same pipeline, folded otherwise
    this.scene = scene;
    this.svg = pictureOf(scene.svg);
    this.svg.setAttribute("role", "group");
    this.svg.setAttribute("aria-label", "pipeline: arrow keys go from process to process, Enter opens its tasks or unfolds a group");
    this.size = [Number(this.svg.getAttribute("width")), Number(this.svg.getAttribute("height"))];
    this.nodes = [...this.svg.querySelectorAll(".nb-node")];
    this.counts = [...this.svg.querySelectorAll(".nb-count")];
    this.boxOf = new Map(scene.boxes.flatMap(({ members }, box) => members.map((process) => [process, box])));
    this.lineOf = new Map(scene.lines.flatMap(({ edges }, line) => edges.map((edge) => [edge, line])));
    this.nodes.forEach((node, index) => {
      node.setAttribute("role", "button");
      node.setAttribute("tabindex", index ? "-1" : "0");
      node.setAttribute("aria-expanded", "false");
      node.addEventListener("click", () => this.act(index));
      node.addEventListener("keydown", (event) => this.key(event, index));
    });
    this.parts = this.nodes.map((node) => barsOf(node));
    this.svg.classList.toggle("nb-few", this.nodes.length <= 40); // hundreds of moving icons cost more than all else
    this.scroll.replaceChildren(this.svg);
    fill(this.legend, ...Object.entries(LEGEND).map(([state, word]) => h("span", { class: "nb-state" }, icon(state, scene.icons), h("span", {}, word))));
    this.offerFolds();
    this.arranged = again && this.arranged;
    if (this.arranged) this.scale(this.zoomed);
    this.offerZoom();
    this.showChanged();
  }

  isFolded(index) { return this.scene.boxes[index].members.length > 1; }

  /** What a click or Enter does. */
  act(index) {
    const { members, group } = this.scene.boxes[index];
    if (!this.isFolded(index)) { this.choose(this.scene.names[members[0]]); return; }
    this.changed = group;
    this.fold(group, true);
  }

  /** A button for each group that is unfolded, since its processes may stand anywhere. */
  offerFolds() {
    fill(this.folds, ...this.scene.groups.map(({ name, count, unfolded }, group) => unfolded
      ? h("button", { type: "button", "aria-expanded": "true", onclick: () => { this.changed = group; this.fold(group, false); } }, `fold ${name} ×${number(count)}`)
      : null));
    this.folds.hidden = !this.folds.children.length;
  }

  /** Go where a group was folded or unfolded here. */
  showChanged() {
    const to = this.changed === undefined ? -1 : this.scene.boxes.findIndex(({ group }) => group === this.changed);
    this.changed = undefined;
    if (to >= 0) this.focus(to);
  }

  /** As large as it is meant, or a little smaller where it then has room; from its first process. */
  arrange() {
    this.arranged = true;
    const fits = this.scroll.clientWidth / this.size[0];
    this.scale(fits < 1 && fits > 0.7 ? fits : 1);
    if (this.size[1] > 460 && this.scene.boxes.length) this.scroll.scrollTop = this.scene.boxes[0].corner[1] - 60;
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
    const { before, after } = this.scene.boxes[index];
    const to = { ArrowRight: after[0] ?? index + 1, ArrowLeft: before[0] ?? index - 1,
      ArrowDown: this.beside(index, 1), ArrowUp: this.beside(index, -1),
      Home: 0, End: this.nodes.length - 1 }[event.key];
    if (event.key === "Enter" || event.key === " ") this.act(index);
    else if (to === undefined || !this.nodes[to]) return;
    else this.focus(to);
    event.preventDefault();
  }

  /** The next box below (or above) in the same layer, else in the order of the list. */
  beside(index, step) {
    const [x, y] = this.scene.boxes[index].corner;
    const column = this.scene.boxes.map(({ corner: [left, top] }, at) => ({ left, top, at }))
      .filter(({ left, top }) => Math.abs(left - x) < 1 && (top - y) * step > 0)
      .sort((a, b) => (a.top - b.top) * step);
    return column.length ? column[0].at : index + step;
  }

  focus(index) {
    this.nodes.forEach((node, at) => node.setAttribute("tabindex", at === index ? "0" : "-1"));
    this.nodes[index].focus();
    this.nodes[index].scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Where a process is: in its own box or in its group's. */
  boxNamed(name) { return this.boxOf.get(this.scene.names.indexOf(name)) ?? -1; }

  mark(name) {
    const at = this.boxNamed(name);
    this.nodes.forEach((node, index) => {
      node.classList.toggle("nb-chosen", index === at);
      node.setAttribute("aria-expanded", String(index === at));
    });
  }

  node(index, all) {
    const group = this.nodes[index], { name, members } = this.scene.boxes[index], folded = this.isFolded(index);
    const counts = folded ? sumOf(members.map((process) => all[process])) : all[members[0]];
    const state = stateOf(counts), text = phrase(counts);
    for (const each of PARTS) group.classList.toggle(`nb-is-${each}`, each === state);
    group.setAttribute("aria-label", folded ? `${name}: ${number(members.length)} processes, ${text}` : `${name}: ${text}`);
    group.querySelector("title").textContent = group.getAttribute("aria-label");
    group.querySelector(".nb-icon").setAttribute("d", this.scene.icons[state]);
    const track = group.querySelector(".nb-track").width.baseVal.value;
    group.querySelector(".nb-phrase").textContent = fit(text, Math.floor(track / 6.4));
    const most = Math.max(1, total(counts)), parts = shares(counts);
    let at = 10;
    for (const part of PARTS) {
      const bar = this.parts[index][part], wide = (track * parts[part]) / most;
      bar.setAttribute("x", at.toFixed(2));
      bar.setAttribute("width", wide.toFixed(2));
      at += wide;
    }
  }

  /** How many items came over a line, which may be for several channels. */
  items(index, all) {
    const { edges, quiet } = this.scene.lines[index];
    const known = edges.map((edge) => all[edge]).filter((count) => count >= 0);
    if (!quiet) this.counts[index].textContent = known.length ? number(known.reduce((a, b) => a + b, 0)) : "";
  }
}
