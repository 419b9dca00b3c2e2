"use strict";
// One program in several files, put together by page.py: what a later file declares as a function is known here, too.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const $ = (selector) => document.querySelector(selector);
const stage = $("#stage"), board = $("#board"), graph = $("#graph"), world = $("#world"), details = $("#details");
const timeline = $("#timeline"), sheet = $("#table"), search = $("#search"), matches = $("#matches");
const touchScreen = matchMedia("(pointer: coarse)").matches;

for (const one of [data, data.families]) {
  one.byId = new Map(one.nodes.map((node, index) => [node.id, Object.assign(node, { index })]));
  one.above = one.nodes.map(() => []);
  one.below = one.nodes.map(() => []);
  for (const [from, to] of one.edges) {
    one.below[from].push(to);
    one.above[to].push(from);
  }
}
const critical = new Set(data.run ? data.run.critical : []);

// Every text from outside reaches the document as a text node, never as markup; what turns the direction of text, or
// cannot be seen, is written out.
const HIDDEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const visible = (text) => String(text).replace(HIDDEN, (one) => {
  const code = one.charCodeAt(0).toString(16);
  return code.length < 3 ? "\\x" + code.padStart(2, "0") : "\\u" + code.padStart(4, "0");
});
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null).map((child) => (child instanceof Node ? child : visible(child))));
  return element;
}
function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = visible(text);
  return element;
}

// ---- colours and theme
const darkSystem = matchMedia("(prefers-color-scheme: dark)");
const rules = new Map(), styles = document.head.appendChild(document.createElement("style")).sheet;
let theme = null;
const isDark = () => (theme === null ? darkSystem.matches : theme === "dark");
function paint() {
  document.documentElement.classList.toggle("dark", isDark());
  for (const [state, look] of Object.entries(data.states)) {
    const [stroke, fill, text] = isDark() ? look.dark : look.light;
    if (!rules.has(state)) rules.set(state, styles.cssRules[styles.insertRule(`.s-${state} {}`, styles.cssRules.length)]);
    const style = rules.get(state).style;
    style.setProperty("--stroke", stroke);
    style.setProperty("--fill", fill);
    style.setProperty("--text", text);
  }
  repaint();
}
darkSystem.addEventListener("change", paint);
$("#theme").addEventListener("click", () => {
  theme = document.documentElement.classList.contains("dark") ? "light" : "dark";
  paint();
});
const RUN_WORDS = { ran: "ran", complete: "complete before" };
function look(state) {
  const known = data.states[state] || { label: state, sign: "•" };
  return data.run && RUN_WORDS[state] ? { ...known, label: RUN_WORDS[state] } : known;
}

// ---- words
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const summary = (node) => Object.entries(node.params || {}).map(([key, value]) => `${key}=${value}`).join(", ");
const whole = (text) => text.replace(/[\ud800-\udbff]$/, "");  // no half of a character
const cut = (text, limit) => (text.length <= limit ? text : whole(text.slice(0, Math.max(1, limit - 1))) + "…");
const ruler = document.createElement("canvas").getContext("2d"), family = getComputedStyle(document.body).fontFamily;
function widthOf(text, font) {
  ruler.font = `${font} ${family}`;
  return ruler.measureText(text).width;
}
function fitted(text, room, font) {  // as much of a text as has room, in pixels
  text = visible(text);
  if (widthOf(text, font) <= room) return text;
  let least = 1, most = Math.min(text.length, 400);
  while (least < most) {
    const middle = (least + most + 1) >> 1;
    if (ruler.measureText(text.slice(0, middle) + "…").width <= room) least = middle; else most = middle - 1;
  }
  return whole(text.slice(0, least)) + "…";
}
function span(seconds) {
  if (seconds == null) return "";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
function bytes(count) {
  if (count == null) return "";
  if (count === 1) return "1 byte";
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (count >= 1000 && power < units.length - 1) { count /= 1000; power += 1; }
  return `${power ? count.toFixed(count < 10 ? 1 : 0) : count} ${units[power]}`;
}
const two = (number, digits = 2) => String(number).padStart(digits, "0");
const zone = (() => {
  const minutes = -new Date().getTimezoneOffset(), size = Math.abs(minutes);
  const offset = `UTC${minutes < 0 ? "−" : "+"}${Math.floor(size / 60)}${size % 60 ? ":" + two(size % 60) : ""}`;
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return name && name !== "UTC" ? `${name}, ${offset}` : minutes ? offset : "UTC";
})();
const day = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
function clock(date, digits = 0) {  // local time
  const part = digits ? "." + two(date.getMilliseconds(), 3).slice(0, digits) : "";
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${part}`;
}
const moment = (iso) => (iso ? `${day(new Date(iso))} ${clock(new Date(iso))}` : "");
function runName(id) {  // its id begins with the time at which it began, in UTC
  const told = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/.exec(id || "");
  return told ? moment(`${told[1]}-${told[2]}-${told[3]}T${told[4]}:${told[5]}:${told[6]}Z`) : id || "unknown run";
}
function workerName(text) {  // between host and process stands which of the host's boots it was
  const told = /^(.*?)(?:-[0-9a-f]{12}(?:\.\d+)+)?-(\d+)$/.exec(text || "");
  if (!told) return { host: "", process: "", text: text || "" };
  const host = told[1].replace(/[^A-Za-z0-9.]/g, "_").slice(0, 24);
  return { host, process: told[2], text: `process ${told[2]} on ${host}` };
}
