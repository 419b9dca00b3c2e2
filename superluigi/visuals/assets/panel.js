// ---- what is told of a task that was chosen
function remember(hash) {
  // a frame in a notebook has no address to put it in
  try { history.replaceState(null, "", hash || location.pathname + location.search); } catch (_) { /* so be it */ }
}
function choose(id, options = {}) {
  chosen = id;
  near = null;
  if (id === null) {
    details.hidden = true;
    remember("");
    refresh();
    return;
  }
  if (view === "families" && !options.task) {
    showFamily(id);
  } else {
    const { index } = data.byId.get(id);
    if (view === "tasks") near = new Set([...reach(index, data.above), ...reach(index, data.below)]);
    showNode(data.byId.get(id));
    remember("#" + encodeURIComponent(id));
  }
  refresh();
  if (options.center) center(id);
}
function section(title, ...content) {
  return content.some((one) => one != null) ? [make("h3", {}, title), ...content.filter((one) => one != null)] : [];
}
function table(lines_) {
  const kept = lines_.filter(([, value]) => value != null && value !== "");
  if (!kept.length) return null;
  return make("table", {}, ...kept.map(([key, value, note]) => make("tr", {}, make("td", {}, key),
    make("td", {}, typeof value === "object" ? JSON.stringify(value) : String(value), note ? make("small", { class: "note" }, note) : null))));
}
function badge(node) {
  return make("span", { class: `chip s-${node.state}` }, look(node.state).sign, make("span", { class: "word" }, " ", look(node.state).label));
}
function links(nodes) {
  if (!nodes.length) return null;
  const list = make("ul", { class: "links" }, ...nodes.slice(0, 200).map((node) => make("li", {},
    make("button", { on: { click: () => { show("tasks"); choose(node.id, { center: true }); } } },
      make("span", { class: `dot s-${node.state}` }, look(node.state).sign), node.name, make("small", {}, summary(node))))));
  if (nodes.length > 200) list.append(make("li", { class: "more" }, `and ${(nodes.length - 200).toLocaleString("en")} more: search for them, or see the table`));
  return list;
}
function fill(...content) {
  details.replaceChildren(
    make("button", { class: "close", "aria-label": "Close", on: { click: () => choose(null) } }, "×"),
    ...content.filter((one) => one != null));
  details.hidden = false;
  details.scrollTop = 0;
}
function logOf(node) {
  if (!node.log) return null;
  const marks = new Set(node.log_lines || []);
  const own = (node.log_lines || [])[0];  // the line of code itself stands below the line that names its file
  if (own !== undefined) marks.add(own + 1);
  const text = node.log.replace(/\x1b\[[0-9;:]*m/g, "");  // colours of a terminal
  return make("pre", { class: "log", tabindex: 0 }, ...text.split("\n").flatMap((text, number) =>
    [marks.has(number) ? make("mark", number === own ? { class: "own" } : {}, text) : text, "\n"]));
}
function showNode(node) {
  const record = node.record ? JSON.parse(node.record) : {}, code = record.code || {}, run = record.run || {}, output = record.output || {};
  const reached = Object.keys(code.parts || {}), kind = data.classes[node.name] || { doc: "", params: {} };
  const log = logOf(node), failed = node.state === "failed";
  fill(
    make("h2", {}, node.name), badge(node),
    critical.has(node.id) ? make("span", { class: "chip critical" }, "on the critical path") : null,
    node.reason ? make("p", { class: "why" }, node.reason) : null,
    ...(failed ? section("Log", log) : []),
    ...section("Noted by the task", table(Object.entries(node.metadata || {}))),
    ...section("What it does", kind.doc ? make("p", { class: "doc" }, kind.doc) : null),
    ...section("Parameters", table(Object.entries(node.params || {}).map(([name, value]) => [name, value, kind.params[name]]))),
    ...section("Run", table([
      ["took", span(node.duration)], ["started", moment(node.start), zone], ["worker", workerName(node.worker).text],
      ["run", node.run ? runName(node.run) : null, node.run], ["attempts", node.attempts > 1 ? node.attempts : null], ["because", run.reason],
      ...(node.failed_attempts || []).map((one) => [`failed after ${span(one.duration)}`, one.error]),
    ])),
    ...section("Output", ...(node.outputs || []).map((path) => make("div", { class: "path" }, path)), table([
      ["size", bytes(node.size)], ["files", output.count],
      ["sha256", output.digest && output.digest.sha256 ? output.digest.sha256.slice(0, 16) + "…" : null],
    ])),
    ...section("Checks", table((Array.isArray(record.checks) ? record.checks : []).map((one) => [
      String(one.name), `${one.status}${one.severity === "warn" ? " (warns)" : ""}${one.detail ? ": " + one.detail : ""}`,
    ]))),
    ...section("Made from", links(data.above[node.index].map((one) => data.nodes[one]))),
    ...section("Used by", links(data.below[node.index].map((one) => data.nodes[one]))),
    ...(failed ? [] : section("Log", log)),
    ...(node.record ? [make("h3", {}, "Record"), make("details", { open: "" }, make("summary", {}, "as JSON"),
      make("pre", { class: "record" }, node.record))] : []),
    ...(!node.record && data.light ? section("Record and log", make("p", { class: "note" },
      "This page has so many tasks that they lie beside their outputs only. In a terminal:"),
      make("pre", { class: "record" }, commands(node, kind.module))) : []),
    ...section("Code", table([
      ["file", code.path], ["repository", code.repo],
      ["commit", code.commit ? code.commit.slice(0, 12) + (code.dirty ? " + uncommitted changes" : "") : null],
      ["branch", code.branch], ["digest", code.digest ? code.digest.sha256.slice(0, 16) + "…" : null],
      ["reaches", reached.length ? reached.join(", ") : null],
    ])),
  );
  const own = log && log.querySelector(".own");
  if (own) log.scrollTop = own.offsetTop - log.offsetTop - 40;
}
const quoted = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;  // for a shell
function commands(node, module) {
  const options = Object.entries(node.params || {}).flatMap(([name, value]) => [`--${name.replaceAll("_", "-")}`, quoted(String(value))]);
  const task = [module || "MODULE", node.name, ...options].join(" ");
  const records = (node.outputs || []).map((path) => `superluigi lineage ${quoted(path)} --json`);
  return [...records, ...(node.worker || module ? [`superluigi logs ${task}`, `superluigi show ${task}`] : [])].join("\n");
}
function showFamily(name) {
  const members = data.nodes.filter((node) => node.name === name);
  const counts = new Map();
  for (const node of members) counts.set(node.state, (counts.get(node.state) || 0) + 1);
  const taken = members.map((node) => node.duration).filter((value) => value != null);
  const total = taken.reduce((sum, value) => sum + value, 0), kind = data.classes[name] || { doc: "", params: {} };
  fill(
    make("h2", {}, name),
    make("div", { class: "chips" }, ...[...counts].map(([state, count]) =>
      make("span", { class: `chip s-${state}` }, look(state).sign, " ", make("b", {}, String(count)), " ", look(state).label))),
    ...section("What it does", kind.doc ? make("p", { class: "doc" }, kind.doc) : null),
    ...section("Parameters", table(Object.entries(kind.params))),
    ...section("Time", table([["in all", taken.length ? span(total) : null], ["each, on average", taken.length ? span(total / taken.length) : null],
      ["longest", taken.length ? span(taken.reduce((one, other) => Math.max(one, other))) : null]])),
    ...section(plural(members.length, "task"), links(members)),
  );
}
