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
