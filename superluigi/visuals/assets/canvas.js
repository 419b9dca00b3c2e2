// ---- a graph of very many tasks, painted
const canvas = $("#canvas");
const MOST_EDGES = 20000, MOST_BOXES_WITH_EDGES = 1200;
let rows = [], queued = false;

function prepareCanvas() {  // rows from above, each from the left: to find what is under a point, and what is in sight
  const { positions } = views[view].layout, byY = new Map();
  positions.forEach(([x, y], index) => {
    if (!byY.has(y)) byY.set(y, []);
    byY.get(y).push({ x, index });
  });
  rows = [...byY].sort((one, other) => one[0] - other[0]).map(([y, row]) => ({ y, row: row.sort((one, other) => one.x - other.x) }));
}
function firstFrom(list, value, key) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (key(list[middle]) < value) low = middle + 1; else high = middle;
  }
  return low;
}
function inSight(x1, y1, x2, y2) {
  const { width, height } = views[view].layout.sizes, seen = [];
  for (let at = firstFrom(rows, y1 - height, (row) => row.y); at < rows.length && rows[at].y <= y2; at += 1) {
    const { row } = rows[at];
    for (let one = firstFrom(row, x1 - width, (box) => box.x); one < row.length && row[one].x <= x2; one += 1) seen.push(row[one].index);
  }
  return seen;
}
function hit(clientX, clientY) {
  const box = board.getBoundingClientRect(), x = (clientX - box.left - left) / scale, y = (clientY - box.top - top_) / scale;
  const [one] = inSight(x, y, x, y);
  return one === undefined ? null : views[view].nodes[one].id;
}
function repaint() {
  if (queued || !onCanvas()) return;
  queued = true;
  requestAnimationFrame(() => { queued = false; if (onCanvas()) paintCanvas(); });
}

function paintCanvas() {
  const { nodes, layout, above, below } = views[view], { width, height } = layout.sizes;
  const ratio = window.devicePixelRatio || 1, wide = board.clientWidth, high = board.clientHeight;
  if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
  }
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const edge = style.getPropertyValue("--edge"), accent = style.getPropertyValue("--accent");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, wide, high);
  pen.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * left, ratio * top_);
  const seen = inSight(-left / scale, -top_ / scale, (wide - left) / scale, (high - top_) / scale);
  const stroke = (pairs, colour, thick) => {
    pen.beginPath();
    for (const [from, to] of pairs) trace(pen, from, to);
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.stroke();
  };
  if (seen.length <= MOST_BOXES_WITH_EDGES) {
    pen.globalAlpha = near ? 0.15 : 0.75;
    const once = new Set(seen);
    stroke(seen.flatMap((one) => [...below[one].map((to) => [one, to]), ...above[one].filter((from) => !once.has(from)).map((from) => [from, one])]), edge, 1.4);
  }
  if (near) {
    pen.globalAlpha = 1;
    const pairs = [];
    for (const one of near) for (const to of below[one]) if (near.has(to) && pairs.length < MOST_EDGES) pairs.push([one, to]);
    stroke(pairs, accent, Math.max(1.6, 1 / scale));
  }
  const tiny = scale < 0.3, grown = tiny ? Math.max(0, 1.6 / scale - height) : 0;
  const byState = new Map();
  for (const one of seen) {
    const { state } = nodes[one];
    if (!byState.has(state)) byState.set(state, []);
    byState.get(state).push(one);
  }
  pen.font = "620 11.5px system-ui, sans-serif";
  for (const [state, several] of byState) {
    const colours = data.states[state] || data.states.missing, [line, fill, text] = isDark() ? colours.dark : colours.light;
    for (const one of several) {
      const node = nodes[one], [x, y] = layout.positions[one];
      pen.globalAlpha = !shows(node) ? 0.1 : near && !near.has(one) ? 0.22 : 1;
      pen.fillStyle = tiny ? line : fill;
      pen.fillRect(x, y, width + grown, height + grown);
      if (tiny) continue;
      pen.strokeStyle = line;
      pen.lineWidth = 1.3;
      pen.strokeRect(x, y, width, height);
      pen.fillStyle = text;
      pen.fillText(cut(visible(`${look(state).sign} ${node.name}`), 21), x + 9, y + 14.5, width - 14);
      pen.fillText(cut(visible(Object.values(node.params || {}).join(", ")), 21), x + 24, y + 27, width - 29);
    }
  }
  pen.globalAlpha = 1;
  pen.strokeStyle = accent;
  for (const one of seen) {
    if (nodes[one].id !== chosen && !(found && found.has(nodes[one].id))) continue;
    const [x, y] = layout.positions[one];
    pen.lineWidth = Math.max(3, 2 / scale);
    pen.strokeRect(x, y, width, height);
  }
  canvas.dataset.painted = String(seen.length);
}

function trace(pen, from, to) {  // as `Layout.route` in layout.py and `curve` in render.py
  const { positions, sizes, layers } = views[view].layout;
  const [x1, y1] = positions[from], [x2, y2] = positions[to], end = x2 + sizes.width / 2, pitch = sizes.width + sizes.gap_x;
  let x = x1 + sizes.width / 2, y = y1 + sizes.height;
  pen.moveTo(x, y);
  const go = (nextX, nextY) => {
    const bend = Math.min(90, (nextY - y) / 2);
    if (nextX === x) pen.lineTo(nextX, nextY); else pen.bezierCurveTo(x, y + bend, nextX, nextY - bend, nextX, nextY);
    x = nextX;
    y = nextY;
  };
  if (layers.length) {
    const at = firstFrom(layers, y1 + 0.5, (layer) => layer[0]) - 1, last = layers[at][1], next = layers[at + 1][0];
    if (y1 < last) {
      const side = x + (x <= end ? pitch / 2 : -pitch / 2);
      go(side, y1 + sizes.height + sizes.gap_row);
      go(side, last + sizes.height);
    }
    if (next < y2) {
      const side = x < end ? end - pitch / 2 : end + pitch / 2;
      const first = layers[firstFrom(layers, y2 + 0.5, (layer) => layer[0]) - 1][0];
      go(side, next);
      go(side, y2 - (y2 === first ? sizes.gap_y : sizes.gap_row));
    }
  }
  go(end, y2);
}
