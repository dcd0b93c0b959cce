// ------------------------------------------------------------------ what a notebook calls

export default {
  render({ model, el }) {
    const view = model.get("page")?.name === "card" ? new CardView(model, el) : new RunView(model, el);
    return () => view.close();
  },
};
