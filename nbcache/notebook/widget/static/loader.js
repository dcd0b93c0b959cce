// What each output carries: it fetches the view's module and style, which a notebook has once.

const loaded = (globalThis[Symbol.for("nbcache.views")] ??= new Map()); // in this page, by the kernel's library
const PATIENCE_MS = 30_000; // a kernel that has ended never answers

/** Ask the kernel itself: where a front end has no models, or no longer that one. */
function asked(model) {
  return new Promise((resolve, reject) => {
    const giveUp = () => {
      clearTimeout(late);
      model.off("msg:custom", hear);
      reject(new Error("no kernel has sent this view: run the cell again"));
    };
    const page = `nb-loader-${Math.random().toString(36).slice(2)}`;
    const hear = (message) => {
      if (message.kind !== "answer" || message.page !== page) return;
      clearTimeout(late);
      model.off("msg:custom", hear);
      resolve(message.answer);
    };
    const late = setTimeout(giveUp, PATIENCE_MS);
    model.on("msg:custom", hear);
    try { model.send({ ask: "library", page }); } catch { giveUp(); }
  });
}

async function fetched(model, id) {
  let found;
  try {
    const library = await model.widget_manager.get_model(id);
    found = { module: library.get("module"), style: library.get("style") };
  } catch { /* then the kernel has it */ }
  const { module, style } = found?.module ? found : await asked(model);
  const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
  try {
    return { view: (await import(url)).default, style };
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Hear the kernel, come what may: anywidget hands nothing on to an output that took two seconds to be ready,
    as in a page that is busy with hundreds of them. Here it is ready. */
async function listen(model, own) {
  try {
    const output = await model.widget_manager.get_model(own);
    const hear = Object.getPrototypeOf(Object.getPrototypeOf(output))._handle_comm_msg; // as any widget has it
    if (hear) output.comm.on_msg(hear.bind(output));
  } catch { /* a front end without models hands on what comes by itself */ }
}

/** The style, once per page; some front ends keep each output in a shadow tree of its own. */
function dress(el, key, style) {
  const tree = el.getRootNode(), place = tree instanceof ShadowRoot ? tree : document.head;
  if (place.querySelector(`style[data-nbcache="${key}"]`)) return;
  const sheet = document.createElement("style");
  sheet.dataset.nbcache = key;
  sheet.textContent = style;
  place.append(sheet);
}

export default {
  async render({ model, el }) {
    const { id, key, own } = model.get("library");
    listen(model, own);
    if (!loaded.has(id)) loaded.set(id, fetched(model, id));
    let found;
    try {
      found = await loaded.get(id);
    } catch (error) {
      loaded.delete(id); // the next one asks again
      throw error;
    }
    dress(el, key, found.style);
    return found.view.render({ model, el });
  },
};
