// ---- all tasks as a table that can be sorted
const COLUMNS = [
  { title: "Task", of: (node) => `${node.name} ${summary(node)}`, cell: (node) => [make("b", {}, node.name), make("small", {}, summary(node))] },
  { title: "State", of: (node) => Object.keys(data.states).indexOf(node.state), cell: (node) => [badge(node)] },
  { title: "Duration", number: true, of: (node) => node.duration, cell: (node) => [span(node.duration)] },
  { title: "Size", number: true, of: (node) => node.size, cell: (node) => [bytes(node.size)] },
  { title: "Attempts", number: true, of: (node) => node.attempts, cell: (node) => [node.attempts == null ? "" : String(node.attempts)] },
];
const STEP = 200;
let sorted = { column: 1, down: false }, listed = [], written = 0;

function renderTable() {
  const kept = (asked().length ? hits : data.nodes).filter(shows), { of } = COLUMNS[sorted.column], sign = sorted.down ? -1 : 1;
  const keys = new Map(kept.map((node) => [node, of(node)]));
  listed = [...kept].sort((one, other) => {
    const a = keys.get(one), b = keys.get(other);
    if (a == null || b == null) return (a == null) - (b == null);  // what is not known stands last, either way
    return sign * (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  });
  written = 0;
  sheet.replaceChildren(
    make("p", {}, listed.length === data.nodes.length ? plural(listed.length, "task") : `${listed.length.toLocaleString("en")} of ${plural(data.nodes.length, "task")}`),
    make("table", {}, make("thead", {}, make("tr", {}, ...COLUMNS.map((column, index) => make("th", {
      class: column.number ? "number" : "", scope: "col", "aria-sort": index === sorted.column ? (sorted.down ? "descending" : "ascending") : "none",
    }, make("button", { on: { click: () => {
      // a first click on a number puts the largest on top: that is what one looks for
      sorted = { column: index, down: index === sorted.column ? !sorted.down : Boolean(column.number) };
      renderTable();
    } } }, column.title))))), make("tbody", {})));
  more();
}
function more() {
  const body = sheet.querySelector("tbody");
  body.append(...listed.slice(written, written + STEP).map((node) => make("tr", {
    class: `s-${node.state}${node.id === chosen ? " at" : ""}`, "data-id": node.id, tabindex: 0,
  }, ...COLUMNS.map((column) => make("td", { class: column.number ? "number" : "" }, ...column.cell(node))))));
  written = Math.min(listed.length, written + STEP);
}
sheet.addEventListener("scroll", () => {
  if (written < listed.length && sheet.scrollTop + sheet.clientHeight > sheet.scrollHeight - 600) more();
});
function chooseRow(event) {
  const row = event.target.closest("tbody tr");
  if (row) choose(row.dataset.id, { task: true });
}
sheet.addEventListener("click", chooseRow);
sheet.addEventListener("keydown", (event) => { if (event.key === "Enter") chooseRow(event); });
