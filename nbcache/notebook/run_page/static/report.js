// Sorts and filters the table of tasks; without it the table is there all the same. Only the rows
// that are shown are in the page: laying out ten thousand takes a browser seconds.
const table = document.getElementById('tasks');
if (table) {
  const most = 300, body = table.tBodies[0], rows = [...body.rows];
  const tools = document.getElementById('tools');
  const text = tools.querySelector('input'), status = tools.querySelector('select');
  const count = tools.querySelector('output'), all = tools.querySelector('button');
  let order = rows.map((row, k) => k), words = null, isAll = false;

  const show = () => {
    words ??= rows.map(row => row.textContent.toLowerCase());
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = order.filter(k => wanted.every(word => words[k].includes(word)) &&
      (!status.value || rows[k].dataset.s === status.value));
    const shown = isAll ? found : found.slice(0, most);
    table.classList.add('all');
    body.replaceChildren(...shown.map(k => rows[k]));
    tell(found.length, shown.length);
  };
  const tell = (found, shown) => {
    const first = shown < found ? `, the first ${shown} are shown` : '';
    count.textContent = `${found} of ${rows.length}${first}`;
    all.hidden = shown === found;
  };

  let waiting;
  text.addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(show, 120); });
  status.addEventListener('change', show);
  all.addEventListener('click', () => { isAll = true; show(); });
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstChild.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') !== 'ascending';
    heads.forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const numeric = head.classList.contains('n');
    const keys = rows.map(row => {
      const cell = row.cells[column];
      return numeric ? parseFloat(cell.dataset.v ?? 'NaN') : cell.textContent;
    });
    const isEmpty = key => numeric ? Number.isNaN(key) : key === '';
    const {compare} = new Intl.Collator(undefined, {numeric: true});
    const between = numeric ? (a, b) => a - b : compare;
    order.sort((a, b) => isEmpty(keys[a]) - isEmpty(keys[b])
      || (up ? 1 : -1) * (isEmpty(keys[a]) ? 0 : between(keys[a], keys[b])) || a - b);
    show();
  }));
  tools.hidden = false;
  tell(rows.length, Math.min(rows.length, most));
}
