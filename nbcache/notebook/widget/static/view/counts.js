// ------------------------------------------------------------------ counts (as cards.py has them)

const over = (counts) => counts.slice(COMPLETED, EXPECTED).reduce((a, b) => a + b, 0); // whatever their outcome
const atWork = (counts) => counts[RUNNING] + counts[COMMITTING];
const total = (counts) =>
  Math.max(counts[EXPECTED], counts.slice(0, EXPECTED).reduce((a, b) => a + b, 0));

/** The counts of several processes as one. */
function sumOf(several) {
  const sum = several.reduce((all, counts) => all.map((n, k) => n + counts[k]), Array(EQUAL + 1).fill(0));
  if (several.some((counts) => counts[EXPECTED] < 0)) sum[EXPECTED] = -1;
  return sum;
}

function phrase(counts) {
  const all = total(counts), ended = over(counts), busy = atWork(counts), known = counts[EXPECTED] >= 0;
  if (known && ended === all && !busy) {
    if (!all) return "no tasks";
    const parts = [`${number(counts[COMPLETED])} ran`, `${number(counts[CACHED] - counts[EQUAL])} cached`];
    for (const [index, word] of [[EQUAL, "equal"], [STORED, "stored"], [FAILED, "failed"], [IGNORED, "ignored"],
      [ABORTED, "aborted"], [SKIPPED, "skipped"]])
      if (counts[index]) parts.push(`${number(counts[index])} ${word}`);
    return parts.join(", ");
  }
  const parts = [`${number(ended - counts[ABORTED])}/${known || all > ended ? number(all) : "?"}`];
  if (busy) parts.push(`${number(busy)} running`);
  for (const [index, word] of [[FAILED, "failed"], [ABORTED, "aborted"]])
    if (counts[index]) parts.push(`${number(counts[index])} ${word}`);
  return parts.join(" · ");
}

const shares = (counts) => ({
  cached: counts[CACHED] - counts[EQUAL] + counts[STORED],
  done: counts[COMPLETED] + counts[EQUAL],
  failed: counts[FAILED] + counts[IGNORED],
  running: atWork(counts),
  pending: counts[SKIPPED] + counts[ABORTED],
});

function stateOf(counts) {
  if (counts[FAILED]) return "failed";
  if (atWork(counts)) return "running";
  if (over(counts) < total(counts) || counts[ABORTED] || counts[EXPECTED] < 0) return "pending"; // more may come
  if (counts[COMPLETED] || counts[EQUAL]) return "done";
  return counts[CACHED] || counts[STORED] ? "cached" : "pending";
}

const LEGEND = { pending: "waiting", running: "running", done: "ran", cached: "cached", failed: "failed" };

/** The word of a state, as the legend of the picture has it. */
const wordOf = (counts) => (phrase(counts) === "no tasks" ? "empty"
  : counts[ABORTED] && stateOf(counts) === "pending" ? "aborted" : LEGEND[stateOf(counts)]);

const LOOKS = { done: "done", ran: "done", completed: "done", equal: "done", cached: "cached", stored: "cached", failed: "failed", ignored: "failed",
  running: "running", succeeded: "done" };
const lookOf = (status) => LOOKS[status] ?? "pending";

/** An icon and the word of a status. */
const statusOf = (status, icons) =>
  h("span", { class: "nb-state" }, icon(lookOf(status), icons), h("span", {}, status));
