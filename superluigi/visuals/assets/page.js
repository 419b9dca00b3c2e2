"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const $ = (selector) => document.querySelector(selector);
  const stage = $("#stage"), graph = $("#graph"), world = $("#world"), details = $("#details");
  const timeline = $("#timeline"), search = $("#search"), matches = $("#matches");
  const byId = new Map(data.nodes.map((node) => [node.id, node]));
  const above = new Map(), below = new Map();
  for (const [from, to] of data.edges) {
    if (!below.has(from)) below.set(from, []);
    if (!above.has(to)) above.set(to, []);
    below.get(from).push(to);
    above.get(to).push(from);
  }

  // Every text from outside reaches the document as a text node, never as markup.
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
      else if (value !== false && value != null) element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  }
  function draw(tag, attributes, text) {
    const element = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // ---- colours and theme
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = null;
  function paint() {
    const isDark = theme === null ? dark.matches : theme === "dark";
    document.documentElement.classList.toggle("dark", isDark);
    for (const [state, look] of Object.entries(data.states)) {
      const [stroke, fill, text] = isDark ? look.dark : look.light;
      let rule = rules.get(state);
      if (!rule) {
        const index = sheet.insertRule(`.s-${state} {}`, sheet.cssRules.length);
        rules.set(state, (rule = sheet.cssRules[index]));
      }
      rule.style.setProperty("--stroke", stroke);
      rule.style.setProperty("--fill", fill);
      rule.style.setProperty("--text", text);
    }
  }
  const sheet = document.head.appendChild(document.createElement("style")).sheet;
  const rules = new Map();
  dark.addEventListener("change", paint);
  $("#theme").addEventListener("click", () => {
    theme = document.documentElement.classList.contains("dark") ? "light" : "dark";
    paint();
  });
  const look = (state) => data.states[state] || { label: state, sign: "•" };

  // ---- words
  const summary = (node) => Object.entries(node.params || {}).map(([key, value]) => `${key}=${value}`).join(", ");
  const cut = (text, limit) => (text.length <= limit ? text : text.slice(0, Math.max(1, limit - 1)) + "…");
  function span(seconds) {
    if (seconds == null) return "";
    if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
    if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
    return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  }
  function bytes(count) {
    if (count === 1) return "1 byte";
    const units = ["bytes", "kB", "MB", "GB", "TB"];
    let power = 0;
    while (count >= 1000 && power < units.length - 1) { count /= 1000; power += 1; }
    return `${power ? count.toFixed(count < 10 ? 1 : 0) : count} ${units[power]}`;
  }
  const moment = (iso) => (iso ? iso.replace("T", " ").replace(/\.\d+/, "").replace("+00:00", " UTC") : "");

  // ---- the graph
  const views = { tasks: data, families: data.families };
  let view = null, drawn = new Map(), lines = [];
  function render(name) {
    view = name;
    const { nodes, edges, paths, layout } = views[name];
    const { width, height } = layout.sizes, dense = height < 40;
    const fits = Math.floor((width - 44) / 7.1);
    drawn = new Map();
    const boxes = document.createDocumentFragment();
    for (const node of nodes) {
      const [x, y] = layout.places[node.id];
      const group = draw("g", {
        class: `node s-${node.state} ${node.state}`, transform: `translate(${x} ${y})`, tabindex: 0, role: "button",
        "aria-label": `${node.name} ${summary(node)}: ${look(node.state).label}`, "data-id": node.id,
      });
      if (node.mix && told(node) !== "1 task") {
        group.append(draw("rect", { class: "stack", x: 4, y: 4, width, height, rx: 7 }));
      }
      const line = dense ? Object.values(node.params || {}).join(", ") : summary(node);
      const words = node.mix ? told(node) : line;
      const base = words ? (dense ? 14.5 : 19) : height / 2 + 4.5, room = dense ? 1.12 : 1;
      group.append(
        draw("rect", { class: "box", width, height, rx: 7 }),
        draw("text", { class: "sign", x: 16, y: base }, look(node.state).sign),
        draw("text", { class: "name", x: 30, y: base }, cut(node.name, Math.floor(fits * room))),
      );
      if (words) group.classList.add("lined");
      if (words) group.append(draw("text", { class: "params", x: 30, y: dense ? 27 : 35 }, cut(words, Math.floor(fits * 1.17 * room))));
      if (node.mix) group.append(mixture(node.mix, width, height));
      group.append(draw("title", {}, [node.name, words, look(node.state).label, node.reason].filter(Boolean).join("\n")));
      drawn.set(node.id, group);
      boxes.append(group);
    }
    const strokes = document.createDocumentFragment();
    lines = [];
    edges.forEach(([from, to], index) => {
      const path = draw("path", { d: paths[index] });
      lines.push({ from, to, path });
      strokes.append(path);
    });
    $("#edges").classList.toggle("arrows", edges.length < 600);
    $("#edges").replaceChildren(strokes);
    world.classList.toggle("dense", dense);
    $("#nodes").replaceChildren(boxes);
    fit();
    filter();
  }

  function told(node) {
    const all = Object.values(node.mix).reduce((sum, count) => sum + count, 0);
    const worst = Object.keys(node.mix).length > 1 && node.mix[node.state] ? `, ${node.mix[node.state]} ${look(node.state).label}` : "";
    return `${all} task${all === 1 ? "" : "s"}${worst}`;
  }
  function mixture(mix, width, height) {
    const bar = draw("g", { class: "mix" }), inner = width - 16;
    const all = Object.values(mix).reduce((sum, count) => sum + count, 0);
    let x = 8;
    for (const [state, count] of Object.entries(mix)) {
      const part = (inner * count) / all;
      bar.append(draw("rect", { class: `s-${state}`, x, y: height - 6, width: Math.max(1, part - 1), height: 3, rx: 1.5 }));
      x += part;
    }
    return bar;
  }

  // ---- pan and zoom
  let scale = 1, left = 0, top = 0, touched = false;
  function place() {
    world.setAttribute("transform", `translate(${left} ${top}) scale(${scale})`);
    world.classList.toggle("far", scale < 0.62);
    world.classList.toggle("tiny", scale < 0.3);
  }
  function fit() {
    touched = false;
    const { width, height } = views[view].layout, box = graph.getBoundingClientRect();
    const pad = 48;
    scale = Math.min((box.width - pad) / Math.max(width, 1), (box.height - pad) / Math.max(height, 1), 1.25);
    left = (box.width - width * scale) / 2;
    top = Math.max(24, (box.height - height * scale) / 2);
    place();
  }
  function zoom(factor, x, y) {
    touched = true;
    const next = Math.min(3, Math.max(0.04, scale * factor));
    left = x - ((x - left) * next) / scale;
    top = y - ((y - top) * next) / scale;
    scale = next;
    place();
  }
  function center(id) {
    const at = views[view].layout.places[id];
    if (!at) return;
    touched = true;
    const { width, height } = views[view].layout.sizes, box = graph.getBoundingClientRect();
    if (scale < 0.7) scale = 0.9;
    left = box.width / 2 - (at[0] + width / 2) * scale;
    top = box.height / 2 - (at[1] + height / 2) * scale;
    place();
  }
  graph.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = graph.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  let grip = null;
  graph.addEventListener("pointerdown", (event) => {
    if (event.button === 0) grip = { x: event.clientX - left, y: event.clientY - top, id: event.pointerId, moved: false };
  });
  graph.addEventListener("pointermove", (event) => {
    if (!grip) return;
    const x = event.clientX - grip.x, y = event.clientY - grip.y;
    if (!grip.moved && Math.hypot(x - left, y - top) < 4) return;
    if (!grip.moved) graph.setPointerCapture(grip.id);
    grip.moved = touched = true;
    graph.classList.add("dragging");
    left = x;
    top = y;
    place();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    graph.addEventListener(end, (event) => {
      const moved = grip && grip.moved;
      grip = null;
      graph.classList.remove("dragging");
      if (end === "pointercancel" || moved) return;
      const node = event.target.closest(".node");
      if (node) choose(node.dataset.id);
      else choose(null);
    });
  }
  graph.addEventListener("keydown", (event) => {
    const node = event.target.closest(".node");
    if (node && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      choose(node.dataset.id);
    }
    const next = node && neighbour(node.dataset.id, event.key);
    if (next && drawn.has(next)) {
      event.preventDefault();
      drawn.get(next).focus({ preventScroll: true });
      choose(next, { center: true });
    }
  });
  function neighbour(id, key) {  // up and down along the data, left and right within a row
    if (key === "ArrowUp" || key === "ArrowDown") return view === "tasks" && ((key === "ArrowUp" ? above : below).get(id) || [])[0];
    if (key !== "ArrowLeft" && key !== "ArrowRight") return null;
    const places = views[view].layout.places;
    const row = Object.keys(places).filter((one) => places[one][1] === places[id][1]).sort((one, other) => places[one][0] - places[other][0]);
    return row[row.indexOf(id) + (key === "ArrowLeft" ? -1 : 1)];
  }
  document.querySelector(".zoom").addEventListener("click", (event) => {
    const box = graph.getBoundingClientRect(), kind = event.target.dataset.zoom;
    if (kind === "fit") fit();
    else if (kind) zoom(kind === "in" ? 1.35 : 1 / 1.35, box.width / 2, box.height / 2);
  });
  new ResizeObserver(() => { if (view && !touched) fit(); }).observe(stage);

  // ---- choosing a node
  let chosen = null;
  function reach(id, next) {
    const seen = new Set([id]), waiting = [id];
    while (waiting.length) for (const other of next.get(waiting.pop()) || []) {
      if (!seen.has(other)) { seen.add(other); waiting.push(other); }
    }
    return seen;
  }
  function remember(hash) {
    // a frame in a notebook has no address to put it in
    try { history.replaceState(null, "", hash || location.pathname + location.search); } catch (_) { /* so be it */ }
  }
  function choose(id, options = {}) {
    if (chosen && drawn.get(chosen)) drawn.get(chosen).classList.remove("at");
    chosen = id;
    for (const bar of timeline.querySelectorAll(".bar")) bar.classList.toggle("at", bar.dataset.id === id);
    world.classList.toggle("dim", id !== null && view === "tasks");
    if (id === null) {
      details.hidden = true;
      remember("");
      for (const line of lines) line.path.classList.remove("near");
      return;
    }
    if (view === "families") {
      showFamily(id);
    } else {
      const near = new Set([...reach(id, above), ...reach(id, below)]);
      for (const [other, group] of drawn) group.classList.toggle("lit", near.has(other));
      for (const line of lines) line.path.classList.toggle("near", near.has(line.from) && near.has(line.to));
      showNode(byId.get(id));
      remember("#" + encodeURIComponent(id));
    }
    const group = drawn.get(id);
    if (group) group.classList.add("at");
    if (options.center) center(id);
  }
  function section(title, ...content) {
    return content.some((one) => one != null) ? [make("h3", {}, title), ...content.filter((one) => one != null)] : [];
  }
  function table(rows) {
    const kept = rows.filter(([, value]) => value != null && value !== "");
    if (!kept.length) return null;
    return make("table", {}, ...kept.map(([key, value]) =>
      make("tr", {}, make("td", {}, key), make("td", {}, typeof value === "object" ? JSON.stringify(value) : String(value)))));
  }
  function badge(node) {
    return make("span", { class: `chip s-${node.state}` }, look(node.state).sign, " ", look(node.state).label);
  }
  function links(ids) {
    if (!ids || !ids.length) return null;
    return make("ul", { class: "links" }, ...ids.slice(0, 200).map((id) => {
      const node = byId.get(id);
      return make("li", {}, make("button", { on: { click: () => { show("tasks"); choose(id, { center: true }); } } },
        make("span", { class: `dot s-${node.state}` }, look(node.state).sign), node.name, make("small", {}, summary(node))));
    }));
  }
  function fill(...content) {
    details.replaceChildren(
      make("button", { class: "close", "aria-label": "Close", on: { click: () => choose(null) } }, "×"),
      ...content.filter((one) => one != null));
    details.hidden = false;
    details.scrollTop = 0;
  }
  function showNode(node) {
    const record = node.record ? JSON.parse(node.record) : {}, code = record.code || {}, run = record.run || {}, output = record.output || {};
    const changed = Object.keys(code.parts || {});
    fill(
      make("h2", {}, node.name), badge(node),
      node.reason ? make("p", { class: "why" }, node.reason) : null,
      ...section("Parameters", table(Object.entries(node.params || {}))),
      ...section("Run", table([
        ["started", moment(node.start)], ["took", span(node.duration)], ["worker", node.worker],
        ["run", node.run], ["attempt", run.attempt > 1 ? run.attempt : null], ["because", run.reason],
        ...(node.failed_attempts || []).map((one) => [`failed after ${span(one.duration)}`, one.error]),
      ])),
      ...section("Output", ...(node.outputs || []).map((path) => make("div", { class: "path" }, path)), table([
        ["size", output.size == null ? null : bytes(output.size)], ["files", output.count],
        ["sha256", output.digest && output.digest.sha256 ? output.digest.sha256.slice(0, 16) + "…" : null],
      ])),
      ...section("Code", table([
        ["file", code.path], ["repository", code.repo],
        ["commit", code.commit ? code.commit.slice(0, 12) + (code.dirty ? " + uncommitted changes" : "") : null],
        ["branch", code.branch], ["digest", code.digest ? code.digest.sha256.slice(0, 16) + "…" : null],
        ["reaches", changed.length ? changed.join(", ") : null],
      ])),
      ...section("Made from", links(above.get(node.id))),
      ...section("Used by", links(below.get(node.id))),
      ...section("Log", node.log ? make("pre", { class: "log" }, node.log) : null),
      ...(node.record ? [make("h3", {}, "Record"), make("details", { open: "" }, make("summary", {}, "as JSON"),
        make("pre", { class: "record" }, node.record))] : []),
    );
  }
  function showFamily(name) {
    const members = data.nodes.filter((node) => node.name === name);
    const counts = new Map();
    for (const node of members) counts.set(node.state, (counts.get(node.state) || 0) + 1);
    const taken = members.map((node) => node.duration).filter((value) => value != null);
    const total = taken.reduce((sum, value) => sum + value, 0);
    fill(
      make("h2", {}, name),
      make("div", { class: "chips" }, ...[...counts].map(([state, count]) =>
        make("span", { class: `chip s-${state}` }, look(state).sign, " ", make("b", {}, String(count)), " ", look(state).label))),
      ...section("Time", table([["in all", taken.length ? span(total) : null], ["each, on average", taken.length ? span(total / taken.length) : null],
        ["longest", taken.length ? span(Math.max(...taken)) : null]])),
      ...section(`${members.length} task${members.length === 1 ? "" : "s"}`, links(members.map((node) => node.id))),
    );
  }

  // ---- states as filters
  const hiddenStates = new Set();
  function filter() {
    for (const node of views[view].nodes) {
      const group = drawn.get(node.id);
      if (group) group.classList.toggle("filtered", hiddenStates.has(node.state));
    }
  }
  for (const [state, count] of Object.entries(data.counts)) {
    const chip = make("button", { class: `chip s-${state}`, "aria-pressed": "true", title: "Show or hide", on: { click: () => {
      if (hiddenStates.has(state)) hiddenStates.delete(state); else hiddenStates.add(state);
      chip.classList.toggle("off", hiddenStates.has(state));
      chip.setAttribute("aria-pressed", String(!hiddenStates.has(state)));
      filter();
    } } }, look(state).sign, " ", make("b", {}, String(count)), " ", look(state).label);
    $(".chips").append(chip);
  }

  // ---- search
  const haystack = data.nodes.map((node) =>
    [node.name, summary(node), node.id, ...(node.outputs || []), look(node.state).label, node.reason || ""].join(" ").toLowerCase());
  let hits = [], at = 0;
  function find() {
    const words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    hits = words.length ? data.nodes.filter((_, index) => words.every((word) => haystack[index].includes(word))) : [];
    at = 0;
    const found = new Set(hits.map((node) => node.id));
    if (view === "tasks") for (const [id, group] of drawn) group.classList.toggle("found", found.has(id));
    if (view === "families") {
      const names = new Set(hits.map((node) => node.name));
      for (const [id, group] of drawn) group.classList.toggle("found", names.has(id));
    }
    matches.hidden = !words.length;
    matches.replaceChildren(...hits.slice(0, 50).map((node, index) => make("li", {
      class: index === at ? "at" : "", on: { pointerdown: (event) => { event.preventDefault(); go(index); } },
    }, make("span", { class: `s-${node.state}` }, look(node.state).sign + " "), node.name, make("small", {}, summary(node)))));
    if (words.length && !hits.length) matches.append(make("li", { class: "none" }, "nothing found"));
    if (hits.length > 50) matches.append(make("li", { class: "none" }, `and ${hits.length - 50} more`));
  }
  function go(index) {
    if (!hits.length) return;
    at = (index + hits.length) % hits.length;
    [...matches.children].forEach((item, place) => item.classList.toggle("at", place === at));
    matches.hidden = false;
    if (view !== "tasks") show("tasks");
    choose(hits[at].id, { center: true });
  }
  search.addEventListener("input", find);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      go(chosen === (hits[at] || {}).id ? at + (event.shiftKey ? -1 : 1) : at);
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

  // ---- the timeline
  const timed = data.nodes.filter((node) => node.start && node.duration != null);
  for (const node of data.nodes) {
    for (const one of node.failed_attempts || []) {
      timed.push({ ...one, id: node.id, name: node.name, params: node.params, state: "failed", reason: one.error });
    }
  }
  const runs = new Map();
  for (const node of timed) {
    const name = node.run || "";
    if (!runs.has(name)) runs.set(name, []);
    runs.get(name).push(node);
  }
  const order = [...runs.keys()].sort((one, other) => latest(other) - latest(one));
  function latest(name) { return Math.max(...runs.get(name).map((node) => Date.parse(node.start))); }
  function renderTimeline(name) {
    const nodes = runs.get(name) || [];
    const begin = Math.min(...nodes.map((node) => Date.parse(node.start)));
    const end = Math.max(...nodes.map((node) => Date.parse(node.start) + node.duration * 1000), begin + 1);
    const lanes = new Map();
    for (const node of [...nodes].sort((one, other) => Date.parse(one.start) - Date.parse(other.start))) {
      const worker = node.worker || "worker";
      if (!lanes.has(worker)) lanes.set(worker, []);
      const rows = lanes.get(worker);  // tasks that overlap on one worker (threads) get rows of their own
      const start = Date.parse(node.start);
      let row = rows.find((one) => one.end <= start + 0.5);
      if (!row) rows.push((row = { nodes: [], end: 0 }));
      row.nodes.push(node);
      row.end = start + node.duration * 1000;
    }
    const label = 190, wide = Math.max(480, timeline.clientWidth - label - 60), high = 24;
    const total = [...lanes.values()].reduce((sum, rows) => sum + rows.length, 0);
    const height = total * high + lanes.size * 10 + 40;
    const picture = draw("svg", { width: label + wide + 20, height, role: "img", "aria-label": "Timeline" });
    const x = (time) => label + ((time - begin) / (end - begin)) * wide;
    const step = niceStep((end - begin) / 1000 / 8) * 1000;
    for (let time = 0; time <= end - begin; time += step) {
      picture.append(
        draw("line", { class: "tick", x1: x(begin + time), x2: x(begin + time), y1: 20, y2: height }),
        draw("text", { class: "time", x: x(begin + time) + 3, y: 14 }, time === 0 ? "0" : span(time / 1000)));
    }
    let y = 28;
    for (const [worker, rows] of lanes) {
      picture.append(draw("text", { class: "lane", x: 0, y: y + 14 }, cut(worker, 25)));
      for (const row of rows) {
        for (const node of row.nodes) {
          const from = x(Date.parse(node.start)), width = Math.max(2, (node.duration * 1000 / (end - begin)) * wide);
          const bar = draw("g", { class: `bar s-${node.state}`, "data-id": node.id, tabindex: 0, role: "button", "aria-label": node.error ? `${node.name}, failed` : node.name });
          bar.append(draw("rect", { x: from, y, width, height: high - 4, rx: 3 }));
          if (width > 40) bar.append(draw("text", { x: from + 6, y: y + 14 }, cut(node.name, Math.floor(width / 7))));
          const why = node.error ? `\nfailed: ${node.error}` : "";
          bar.append(draw("title", {}, `${node.name} ${summary(node)}\n${span(node.duration)}${why}`));
          bar.addEventListener("click", () => choose(node.id));
          picture.append(bar);
        }
        y += high;
      }
      y += 10;
    }
    const busy = nodes.reduce((sum, node) => sum + node.duration, 0);
    const words = `${nodes.length} attempt${nodes.length === 1 ? "" : "s"} in ${span((end - begin) / 1000)} on ${lanes.size} ` +
      `worker${lanes.size === 1 ? "" : "s"}; ${span(busy)} of work`;
    const chooser = order.length > 1 ? make("select", { "aria-label": "Run", on: { change: (event) => renderTimeline(event.target.value) } },
      ...order.map((one) => make("option", { value: one, selected: one === name ? "" : false }, one || "unknown run"))) : null;
    timeline.replaceChildren(...[chooser, make("p", {}, words), picture].filter(Boolean));
  }
  function niceStep(seconds) {
    for (const one of [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400]) {
      if (one >= seconds) return one;
    }
    return 604800;
  }

  // ---- views
  function show(name) {
    for (const tab of document.querySelectorAll(".tabs button")) tab.setAttribute("aria-selected", String(tab.dataset.view === name));
    const isTimeline = name === "timeline";
    timeline.hidden = !isTimeline;
    graph.style.visibility = isTimeline ? "hidden" : "visible";
    document.querySelector(".zoom").hidden = isTimeline;
    $("#hint").hidden = isTimeline;
    if (isTimeline) { view = "tasks"; renderTimeline(order[0]); return; }
    if (view !== name || !drawn.size) { choose(null); render(name); }
  }
  document.querySelector(".tabs").addEventListener("click", (event) => { if (event.target.dataset.view) show(event.target.dataset.view); });
  if (!timed.length) document.querySelector('[data-view="timeline"]').hidden = true;
  if (data.families.nodes.length < 2 || data.families.nodes.length === data.nodes.length) {
    document.querySelector('[data-view="families"]').hidden = true;
  }

  $("h1").textContent = data.title;
  $(".heading p").textContent = data.subtitle || "";
  $("#hint").textContent = "drag to move · wheel to zoom · click a task, or Tab, Enter and arrow keys";
  paint();
  let wanted = null;
  try { wanted = decodeURIComponent(location.hash.slice(1)); } catch (_) { /* a hash that is not ours */ }
  show(data.view);
  if (wanted && byId.has(wanted)) { show("tasks"); choose(wanted, { center: true }); }
})();
