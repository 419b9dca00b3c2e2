// ---- the graph as elements; canvas.js draws the large ones
const views = { tasks: data, families: data.families };
let view = null, drawn = new Map(), lines = [];
let chosen = null, near = null, found = null;
const shownStates = new Set();  // empty: all

const shows = (node) => !shownStates.size || (node.mix ? Object.keys(node.mix) : [node.state]).some((state) => shownStates.has(state));
const onCanvas = () => view !== null && views[view].paths === null;

function render(name) {
  view = name;
  near = null;
  drawn = new Map();
  lines = [];
  graph.toggleAttribute("hidden", onCanvas());
  canvas.hidden = !onCanvas();
  if (onCanvas()) {
    $("#edges").replaceChildren();
    $("#nodes").replaceChildren();
    prepareCanvas();
  } else renderElements(views[name]);
  fit();
  refresh();
}

function renderElements({ nodes, edges, paths, layout }) {
  const { width, height } = layout.sizes, dense = height < 40;
  const room = width - 40, bold = dense ? "600 11.5px" : "600 13px", plain = dense ? "10px" : "11px";
  const boxes = document.createDocumentFragment();
  nodes.forEach((node, index) => {
    const [x, y] = layout.positions[index];
    const group = draw("g", {
      class: `node s-${node.state} ${node.state}`, transform: `translate(${x} ${y})`, tabindex: 0, role: "button",
      "aria-label": `${node.name} ${summary(node)}: ${look(node.state).label}`, "data-id": node.id,
    });
    group.classList.toggle("critical", critical.has(node.id));
    if (node.mix && told(node) !== "1 task") {
      group.append(draw("rect", { class: "stack", x: 4, y: 4, width, height, rx: 7 }));
    }
    const line = dense ? Object.values(node.params || {}).join(", ") : summary(node);
    const words = node.mix ? told(node) : line;
    const base = words ? (dense ? 14.5 : 19) : height / 2 + 4.5;
    group.append(
      draw("rect", { class: "box", width, height, rx: 7 }),
      draw("text", { class: "sign", x: 16, y: base }, look(node.state).sign),
      draw("text", { class: "name", x: 30, y: base }, fitted(node.name, room, bold)),
    );
    if (words) group.classList.add("lined");
    if (words) group.append(draw("text", { class: "params", x: 30, y: dense ? 27 : 35 }, fitted(words, room, plain)));
    if (node.mix) group.append(mixture(node.mix, width, height));
    group.append(draw("title", {}, [node.name, words, look(node.state).label, node.reason].filter(Boolean).join("\n")));
    drawn.set(node.id, group);
    boxes.append(group);
  });
  const strokes = document.createDocumentFragment();
  edges.forEach(([from, to], index) => {
    const path = draw("path", { d: paths[index], "data-from": nodes[from].id, "data-to": nodes[to].id });
    path.classList.toggle("critical", critical.has(nodes[from].id) && critical.has(nodes[to].id));
    lines.push({ from, to, path });
    strokes.append(path);
  });
  $("#edges").classList.toggle("arrows", edges.length < 600);
  $("#edges").replaceChildren(strokes);
  world.classList.toggle("dense", dense);
  for (const [key, value] of Object.entries({ width: width - 4, height })) $("#inside rect").setAttribute(key, value);
  $("#nodes").replaceChildren(boxes);
}

function refresh() {  // what is chosen, near it, found and shown
  if (view === null) return;
  const { byId } = views[view];
  const dims = near !== null;
  world.classList.toggle("dim", dims);
  for (const [id, group] of drawn) {
    const node = byId.get(id);
    group.classList.toggle("at", id === chosen);
    group.classList.toggle("lit", dims && near.has(node.index));
    group.classList.toggle("found", found !== null && found.has(id));
    group.classList.toggle("filtered", !shows(node));
  }
  for (const line of lines) line.path.classList.toggle("near", dims && near.has(line.from) && near.has(line.to));
  for (const bar of timeline.querySelectorAll(".bar")) {
    bar.classList.toggle("at", bar.dataset.id === chosen);
    bar.classList.toggle("filtered", !shows(data.byId.get(bar.dataset.id)));
  }
  for (const row of sheet.querySelectorAll("tbody tr")) row.classList.toggle("at", row.dataset.id === chosen);
  repaint();
}

function told(node) {
  const all = Object.values(node.mix).reduce((sum, count) => sum + count, 0);
  const worst = Object.keys(node.mix).length > 1 && node.mix[node.state] ? `, ${node.mix[node.state]} ${look(node.state).label}` : "";
  return plural(all, "task") + worst;
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
let scale = 1, left = 0, top_ = 0, touched = false;
function place() {
  world.setAttribute("transform", `translate(${left} ${top_}) scale(${scale})`);
  world.classList.toggle("far", scale < 0.62);
  world.classList.toggle("tiny", scale < 0.3);
  repaint();
}
const LEGIBLE = 0.7;  // below 0.62 boxes have no names
function fit(whole = false) {  // on a phone only as much as can be read, unless the whole is asked for
  touched = whole;
  const { width, height } = views[view].layout, box = board.getBoundingClientRect();
  const pad = Math.min(48, box.width / 16);
  scale = Math.min((box.width - pad) / Math.max(width, 1), (box.height - pad) / Math.max(height, 1), 1.25);
  left = (box.width - width * scale) / 2;
  top_ = Math.max(pad / 2, (box.height - height * scale) / 2);
  if (!whole && box.width < 600 && scale < LEGIBLE) {
    const { nodes, layout } = views[view], failed = nodes.findIndex((node) => node.state === "failed");
    const [x, y] = layout.positions[failed < 0 ? nodes.length - 1 : failed];
    scale = LEGIBLE;
    const inside = (wanted, size, room) => size * scale <= room - pad ? (room - size * scale) / 2
      : Math.max(room - size * scale - pad / 2, Math.min(pad / 2, wanted));
    left = inside(box.width / 2 - (x + layout.sizes.width / 2) * scale, width, box.width);
    top_ = inside(box.height / 2 - (y + layout.sizes.height / 2) * scale, height, box.height);
  }
  place();
}
function zoom(factor, x, y) {
  touched = true;
  const next = Math.min(3, Math.max(Math.min(0.04, scale), scale * factor));
  left = x - ((x - left) * next) / scale;
  top_ = y - ((y - top_) * next) / scale;
  scale = next;
  place();
}
function center(id) {
  const node = views[view].byId.get(id);
  if (!node) return;
  touched = true;
  const at = views[view].layout.positions[node.index];
  const { width, height } = views[view].layout.sizes, box = board.getBoundingClientRect();
  if (scale < 0.7) scale = 0.9;
  left = box.width / 2 - (at[0] + width / 2) * scale;
  top_ = box.height / 2 - (at[1] + height / 2) * scale;
  place();
}
const framed = window !== window.parent;
board.addEventListener("wheel", (event) => {
  // in a notebook the wheel scrolls the notebook, until the graph has been clicked
  if (framed && !document.hasFocus() && !event.ctrlKey) return;
  event.preventDefault();
  const box = board.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });

const fingers = new Map();
let grip = null;
const between = () => {
  const [one, other] = [...fingers.values()], box = board.getBoundingClientRect();
  return { apart: Math.hypot(one.x - other.x, one.y - other.y), x: (one.x + other.x) / 2 - box.left, y: (one.y + other.y) / 2 - box.top };
};
board.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  if (fingers.size === 2) grip = { ...between(), moved: true };
  else grip = { x: event.clientX - left, y: event.clientY - top_, id: event.pointerId, moved: false };
});
board.addEventListener("pointermove", (event) => {
  if (!grip || !fingers.has(event.pointerId)) return;
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  if (fingers.size === 2) {
    const now = between();
    left += now.x - grip.x;
    top_ += now.y - grip.y;
    zoom(now.apart / Math.max(1, grip.apart), now.x, now.y);
    Object.assign(grip, now);
    return;
  }
  const x = event.clientX - grip.x, y = event.clientY - grip.y;
  if (!grip.moved && Math.hypot(x - left, y - top_) < (event.pointerType === "touch" ? 10 : 4)) return;
  if (!grip.moved) board.setPointerCapture(grip.id);
  grip.moved = touched = true;
  board.classList.add("dragging");
  left = x;
  top_ = y;
  place();
});
for (const end of ["pointerup", "pointercancel"]) {
  board.addEventListener(end, (event) => {
    const moved = grip && grip.moved;
    fingers.delete(event.pointerId);
    grip = null;
    board.classList.remove("dragging");
    for (const [id, finger] of fingers) grip = { x: finger.x - left, y: finger.y - top_, id, moved: true };
    if (end === "pointercancel" || moved) return;
    const node = event.target.closest(".node");
    choose(node ? node.dataset.id : onCanvas() ? hit(event.clientX, event.clientY) : null);
    if (onCanvas()) canvas.focus({ preventScroll: true });
  });
}
board.addEventListener("keydown", (event) => {
  const node = event.target.closest(".node"), id = node ? node.dataset.id : onCanvas() ? chosen : null;
  if (node && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    choose(id);
  }
  const next = id !== null && neighbour(id, event.key);
  if (next) {
    event.preventDefault();
    if (drawn.has(next)) drawn.get(next).focus({ preventScroll: true });
    choose(next, { center: true });
  }
});
function neighbour(id, key) {  // up and down along the data, left and right within a row
  const { nodes, byId, above, below, layout } = views[view], { index } = byId.get(id);
  if (key === "ArrowUp" || key === "ArrowDown") {
    const next = (key === "ArrowUp" ? above : below)[index][0];
    return view === "tasks" && next !== undefined ? nodes[next].id : null;
  }
  if (key !== "ArrowLeft" && key !== "ArrowRight") return null;
  const [x, y] = layout.positions[index], sign = key === "ArrowLeft" ? -1 : 1;
  let best = null;
  layout.positions.forEach((place, other) => {
    const ahead = (place[0] - x) * sign;
    if (place[1] === y && ahead > 0 && (best === null || ahead < best.ahead)) best = { ahead, other };
  });
  return best && nodes[best.other].id;
}
$(".zoom").addEventListener("click", (event) => {
  const box = board.getBoundingClientRect(), kind = event.target.dataset.zoom;
  if (kind === "fit") fit(true);
  else if (kind) zoom(kind === "in" ? 1.35 : 1 / 1.35, box.width / 2, box.height / 2);
});
new ResizeObserver(() => { if (view && !touched && !board.hidden) fit(); else repaint(); }).observe(stage);

function reach(index, next) {
  const seen = new Set([index]), waiting = [index];
  while (waiting.length) for (const other of next[waiting.pop()]) {
    if (!seen.has(other)) { seen.add(other); waiting.push(other); }
  }
  return seen;
}
