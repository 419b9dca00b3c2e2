// ---- views, and the beginning
function show(name) {
  if (!["tasks", "families", "table", "timeline"].includes(name)) name = "tasks";
  for (const tab of document.querySelectorAll(".tabs button")) tab.setAttribute("aria-selected", String(tab.dataset.view === name));
  const isGraph = name === "tasks" || name === "families";
  timeline.hidden = name !== "timeline";
  sheet.hidden = name !== "table";
  board.hidden = !isGraph;
  $(".zoom").hidden = !isGraph;
  $("#hint").hidden = !isGraph;
  if (isGraph) {
    if (view !== name) { choose(null); render(name); }
    else if (!touched) fit();
    return;
  }
  choose(null);
  matches.hidden = true;
  view = null;
  drawn = new Map();
  lines = [];
  if (name === "timeline") renderTimeline(order[0]);
  else { find(); renderTable(); }
}
function told_() {  // of the page and the run, below the header
  const facts = [], run = data.run;
  if (run) {
    const ran = data.counts.ran || 0, made = make("span", {}, make("b", {}, span(run.seconds)), ` from ${moment(run.started)}`);
    facts.push(made, make("span", {}, make("b", {}, String(ran)), " ran, ", make("b", {}, String(data.counts.complete || 0)), " complete before",
      ...(data.counts.failed ? [", ", make("b", { class: "bad" }, String(data.counts.failed)), " failed"] : [])));
    if (run.critical.length) {
      facts.push(make("button", { id: "critical", "aria-pressed": "false", title: "Mark the chain of tasks that took longest together", on: { click: (event) => {
        const on = document.body.classList.toggle("critical-only");
        event.currentTarget.setAttribute("aria-pressed", String(on));
      } } }, "critical path ", make("b", {}, span(run.critical_seconds)), ` in ${plural(run.critical.length, "task")}`));
    }
  }
  facts.push(make("span", { class: "made" }, `page made ${moment(data.made)} (${zone})`, data.command ? " by " : "", data.command ? make("code", { title: data.command }, data.command) : null));
  $("#facts").append(...facts);
}

$(".tabs").addEventListener("click", (event) => { if (event.target.dataset.view) show(event.target.dataset.view); });
if (!timed.length) $('[data-view="timeline"]').hidden = true;
if (data.families.nodes.length < 2 || data.families.nodes.length === data.nodes.length) $('[data-view="families"]').hidden = true;
$("h1").textContent = visible(data.title);
$(".heading p").textContent = visible(data.subtitle || "");
$("#hint").textContent = touchScreen ? "drag to move · pinch to zoom · tap a task"
  : `drag to move · ${framed ? "click, then " : ""}wheel to zoom · click a task, or Tab, Enter and arrow keys`;
drawChips();
told_();
paint();
let wanted = null;
try { wanted = decodeURIComponent(location.hash.slice(1)); } catch (_) { /* a hash that is not ours */ }
show(data.view);
if (wanted && data.byId.has(wanted)) { show("tasks"); choose(wanted, { center: true }); }
