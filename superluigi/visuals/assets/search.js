// ---- states as filters: a click shows only that state, with Ctrl or Shift also that one
function drawChips() {
  for (const [state, count] of Object.entries(data.counts)) {
    $(".chips").append(make("button", {
      class: `chip s-${state}`, "data-state": state, "aria-pressed": "false",
      title: touchScreen ? "Show only these" : "Show only these; with Ctrl, these too", on: { click: (event) => {
        const alone = shownStates.size === 1 && shownStates.has(state), more = event.ctrlKey || event.metaKey || event.shiftKey;
        if (more && shownStates.has(state)) shownStates.delete(state);
        else if (alone) shownStates.clear();
        else { if (!more) shownStates.clear(); shownStates.add(state); }
        for (const chip of $(".chips").children) {
          const on = shownStates.has(chip.dataset.state);
          chip.setAttribute("aria-pressed", String(on));
          chip.classList.toggle("off", shownStates.size > 0 && !on);
        }
        refresh();
        if (!sheet.hidden) renderTable();
      } },
    }, look(state).sign, " ", make("b", {}, count.toLocaleString("en")), " ", look(state).label));
  }
}

// ---- search
let haystack = null, hits = [], at = 0;
const asked = () => search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
function find() {
  haystack = haystack || data.nodes.map((node) => [
    node.name, summary(node), node.id, ...(node.outputs || []), look(node.state).label, node.reason || "",
  ].join(" ").toLowerCase());
  const words = asked();
  hits = words.length ? data.nodes.filter((_, index) => words.every((word) => haystack[index].includes(word))) : [];
  at = 0;
  found = words.length ? new Set(hits.map((node) => (view === "families" ? node.name : node.id))) : null;
  refresh();
  if (!sheet.hidden) { renderTable(); return; }
  matches.hidden = !words.length;
  matches.replaceChildren(...hits.slice(0, 50).map((node, index) => make("li", {
    class: index === at ? "at" : "", on: { pointerdown: (event) => { event.preventDefault(); go(index); matches.hidden = touchScreen; } },
  }, make("span", { class: `s-${node.state}` }, look(node.state).sign + " "), node.name, make("small", {}, summary(node)))));
  if (words.length && !hits.length) matches.append(make("li", { class: "none" }, "nothing found"));
  if (hits.length > 50) matches.append(make("li", { class: "none" }, `and ${(hits.length - 50).toLocaleString("en")} more`));
}
function go(index) {
  if (!hits.length) return;
  at = (index + hits.length) % hits.length;
  [...matches.children].forEach((item, place_) => item.classList.toggle("at", place_ === at));
  matches.hidden = false;
  const { id } = hits[at];
  show("tasks");
  found = new Set(hits.map((node) => node.id));
  choose(id, { center: true });
}
search.addEventListener("input", find);
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && hits.length) {
    go(chosen === hits[at].id ? at + (event.shiftKey ? -1 : 1) : at);
    matches.hidden = true;  // it would lie over what was found; Enter again goes on to the next
    event.preventDefault();
  }
  if (event.key === "ArrowDown") { go(at + 1); event.preventDefault(); }
  if (event.key === "ArrowUp") { go(at - 1); event.preventDefault(); }
  if (event.key === "Escape") { search.value = ""; find(); search.blur(); }
});
search.addEventListener("blur", () => { matches.hidden = true; });
search.addEventListener("focus", find);
addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== search) { search.focus(); event.preventDefault(); }
  if (event.key === "Escape" && document.activeElement !== search) choose(null);
});
