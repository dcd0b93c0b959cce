// ------------------------------------------------------------------ markup that the kernel makes

const TAGS = new Set(["div", "p", "b", "span", "code", "pre", "details", "summary", "ul", "li",
  "table", "thead", "tbody", "tr", "th", "td"]);
const ATTRIBUTES = new Set(["open", "tabindex", "aria-label", "title"]);

/** Elements of what `markup.record_of` wrote: a text, or [tag, looks, attributes, children].

    A few tags and attributes are all there is: nothing that comes so can act. */
function elements(nodes) {
  return nodes.map((node) => {
    if (typeof node === "string") return node;
    const [tag, looks, attributes, children] = node;
    const made = document.createElement(TAGS.has(tag) ? tag : "span");
    if (looks) made.className = looks.split(" ").map((look) => `nb-${look}`).join(" ");
    for (const [name, value] of Object.entries(attributes))
      if (ATTRIBUTES.has(name)) made.setAttribute(name, value);
    made.append(...elements(children));
    return made;
  });
}
