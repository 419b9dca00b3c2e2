// ---- when each attempt ran, and on which worker; colours say how it ended
const timed = data.nodes.filter((node) => node.start && node.duration != null).map((node) => ({ ...node, outcome: "ran" }));
for (const node of data.nodes) {
  for (const one of node.failed_attempts || []) {
    timed.push({ ...one, id: node.id, name: node.name, params: node.params, outcome: "failed" });
  }
}
for (const one of timed) {
  one.from = Date.parse(one.start);
  one.to = one.from + one.duration * 1000;
}
const MOST_ROWS = 64;  // of attempts at the same time on one worker
const runs = new Map();
for (const one of timed) {
  const name = one.run || "";
  if (!runs.has(name)) runs.set(name, []);
  runs.get(name).push(one);
}
const first = (list) => list.reduce((least, one) => Math.min(least, one.from), Infinity);
const last = (list) => list.reduce((most, one) => Math.max(most, one.to), -Infinity);
const order = [...runs.keys()].sort((one, other) => last(runs.get(other)) - last(runs.get(one)));
if (data.run && runs.has(data.run.id)) order.unshift(...order.splice(order.indexOf(data.run.id), 1));

function renderTimeline(name) {
  const list = [...(runs.get(name) || [])].sort((one, other) => one.from - other.from);
  const begin = first(list), end = Math.max(last(list), begin + 1);
  const lanes = new Map(), workerOf = new Map(list.map((one) => [workerName(one.worker).text, workerName(one.worker)]));
  let left_out = 0;
  for (const one of list) {
    const worker = workerName(one.worker).text;
    if (!lanes.has(worker)) lanes.set(worker, []);
    const rows_ = lanes.get(worker);  // tasks that overlap on one worker (threads) get rows of their own
    let row = rows_.find((other) => other.end <= one.from + 0.5);
    if (!row && rows_.length === MOST_ROWS) { left_out += 1; continue; }
    if (!row) rows_.push((row = { list: [], end: 0 }));
    row.list.push(one);
    row.end = one.to;
  }
  const hosts = new Set([...lanes.keys()].map((worker) => workerOf.get(worker).host));
  const titles = [...lanes.keys()].map((worker, number) => {
    const { host, process } = workerOf.get(worker);
    return `worker ${number + 1}${hosts.size > 1 ? ` on ${host}` : ""}${process ? ` · process ${process}` : ""}`;
  });
  const narrow = timeline.clientWidth < 700, high = 24, title = narrow ? 20 : 0;
  const label = narrow ? 0 : Math.min(320, Math.max(...titles.map((one) => widthOf(one, "12px")), 0) + 14);
  const wide = Math.max(200, timeline.clientWidth - label - 56);
  const total = [...lanes.values()].reduce((sum, several) => sum + several.length, 0);
  const height = total * high + lanes.size * (10 + title) + 40;
  const picture = draw("svg", { width: label + wide + 20, height, role: "img", "aria-label": "Timeline" });
  const x = (time) => label + ((time - begin) / (end - begin)) * wide;
  const step = niceStep((end - begin) / 1000 / Math.max(2, Math.floor(wide / 120))) * 1000;
  const digits = step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : 3;
  for (let time = Math.ceil(begin / step) * step; time <= end; time += step) {
    picture.append(
      draw("line", { class: "tick", x1: x(time), x2: x(time), y1: 20, y2: height }),
      draw("text", { class: "time", x: x(time) + 3, y: 14 }, clock(new Date(time), digits)));
  }
  let y = 28;
  [...lanes].forEach(([worker, several], number) => {
    const lane = draw("text", { class: "lane", x: 0, y: y + 14 }, fitted(titles[number], narrow ? wide : label - 12, "12px"));
    lane.append(draw("title", {}, worker || "a worker that the record does not name"));
    picture.append(lane);
    y += title;
    for (const row of several) {
      let before = null;
      row.list.forEach((one, index) => {
        const from = x(one.from), width = Math.max(2, x(one.to) - from);
        // of thousands of attempts that share a pixel, one is enough
        if (before && width <= 2 && before.outcome === one.outcome && from < before.until + 1) return;
        before = { outcome: one.outcome, until: from + width };
        picture.append(barOf(one, from, y, width, high));
        const room = (index + 1 < row.list.length ? x(row.list[index + 1].from) : label + wide) - from;
        const inside = width > 44;
        if (inside || room > 60) {
          const words = cut(one.name, Math.floor(((inside ? width : room - width) - 10) / 7));
          if (words.length > 2) picture.append(draw("text", { class: `words ${inside ? `inside s-${one.outcome}` : ""}`, x: inside ? from + 6 : from + width + 4, y: y + 14 }, words));
        }
      });
      y += high;
    }
    y += 10;
  });
  const busy = list.reduce((sum, one) => sum + one.duration, 0), failed = list.filter((one) => one.outcome === "failed").length;
  const words = `${plural(list.length, "attempt")}${failed ? `, of which ${failed} failed,` : ""} in ${span((end - begin) / 1000)} on ` +
    `${plural(lanes.size, "worker")}; ${span(busy)} of work. Local time (${zone}).` +
    (left_out ? ` ${plural(left_out, "attempt")} at the same time as ${MOST_ROWS} others of a worker are not drawn.` : "");
  const option = (one) => make("option", { value: one, selected: one === name ? "" : false },
    `${runName(one)} · ${plural(runs.get(one).length, "attempt")} in ${span((last(runs.get(one)) - first(runs.get(one))) / 1000)}`);
  const chooser = order.length > 1 ? make("label", {}, "Run of ", make("select", { "aria-label": "Run", on: {
    change: (event) => renderTimeline(event.target.value) } }, ...order.map(option))) : null;
  const key = make("p", { class: "key" }, ...["ran", "failed"].filter((state) => list.some((one) => one.outcome === state)).map((state) =>
    make("span", { class: `s-${state}` }, make("i", {}), state === "ran" ? "went well" : "failed")),
  list.some((one) => critical.has(one.id)) ? make("span", { class: "critical" }, make("i", {}), "on the critical path") : null);
  timeline.replaceChildren(...[chooser, make("p", {}, words), key, picture].filter(Boolean));
  refresh();
}
function barOf(one, x, y, width, high) {
  const bar = draw("g", { class: `bar s-${one.outcome}`, "data-id": one.id, tabindex: 0, role: "button", "aria-label": one.outcome === "failed" ? `${one.name}, failed` : one.name });
  bar.classList.toggle("critical", critical.has(one.id) && one.run === data.run.id);
  bar.append(draw("rect", { x, y, width, height: high - 4, rx: 3 }));
  bar.append(draw("title", {}, `${one.name} ${summary(one)}\n${clock(new Date(one.from), 1)}, ${span(one.duration)}${one.error ? `\nfailed: ${one.error}` : ""}`));
  bar.addEventListener("click", () => choose(one.id, { task: true }));
  bar.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(one.id, { task: true }); });
  return bar;
}
function niceStep(seconds) {
  for (const one of [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400]) {
    if (one >= seconds) return one;
  }
  return 604800;
}
