"use strict";
(() => {
const root = document.documentElement;
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (selector, from = document) => from.querySelector(selector);
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
root.classList.add("script");

/* Text reaches the page through text nodes and attributes alone, so a title cannot become markup. */
function make(space, name, attributes, children) {
  const node = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
const el = (name, attributes = {}, ...children) => make(null, name, attributes, children);
const svg = (name, attributes = {}, ...children) => make("http://www.w3.org/2000/svg", name, attributes, children);

/* Theme */
const themes = { auto: "as the system", light: "light", dark: "dark" };
function setTheme(name) {
  if (name === "auto") delete root.dataset.theme;
  else root.dataset.theme = name;
  $("#theme").textContent = `Theme: ${themes[name]}`;
}
function remembered(value) {
  try {
    if (value) localStorage.setItem("rlrecbench-theme", value);
    return localStorage.getItem("rlrecbench-theme");
  } catch { return null; }
}
setTheme(themes[remembered()] ? remembered() : "auto");
$("#theme").addEventListener("click", () => {
  const names = Object.keys(themes);
  const next = names[(names.indexOf(root.dataset.theme ?? "auto") + 1) % names.length];
  setTheme(next);
  remembered(next);
});

/* Sorting: best first, then worst first, then the suite's order; what is missing stays last. */
function key(row, column) {
  const text = row.cells[column].dataset.sort ?? "";
  return text === "" ? null : text;
}
function sortBy(table, head) {
  const body = table.tBodies[0];
  table.suiteOrder ??= [...body.rows];
  const column = head.cellIndex, better = $(".sort", head).dataset.better;
  const upward = better === "higher" ? "descending" : "ascending";
  const cycle = ["none", upward, upward === "ascending" ? "descending" : "ascending"];
  const next = cycle[(cycle.indexOf(head.getAttribute("aria-sort") ?? "none") + 1) % 3];
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  if (next === "none") return body.append(...table.suiteOrder);
  head.setAttribute("aria-sort", next);
  const sign = next === "ascending" ? 1 : -1;
  const compare = (a, b) => (better === "text" ? a.localeCompare(b, "en") : a - b);
  const known = table.suiteOrder.filter((row) => key(row, column) !== null);
  known.sort((a, b) => sign * compare(key(a, column), key(b, column)));
  body.append(...known, ...table.suiteOrder.filter((row) => key(row, column) === null));
}
for (const button of $$(".sort")) {
  button.addEventListener("click", () => sortBy(button.closest("table"), button.closest("th")));
}

/* Filters hold for the whole page. */
const shown = { dataset: "", label: "" };
function filter() {
  const text = $("#filter").value.trim().toLowerCase(), starred = $("#starred").checked;
  for (const name of Object.keys(shown)) shown[name] = $(`#${name}`)?.value ?? "";
  const fits = (name) => name.toLowerCase().includes(text);
  for (const node of $$("[data-row]")) {
    const board = node.closest("table.board");
    node.hidden = !fits(node.dataset.row) || Boolean(board && starred && !("star" in node.dataset || "baseline" in node.dataset));
  }
  for (const block of $$("article.block")) {
    block.hidden = (shown.dataset && block.dataset.dataset !== shown.dataset) || (shown.label && block.dataset.label !== shown.label);
  }
  const rows = $$(".board tbody tr"), visible = rows.filter((row) => !row.hidden && !row.closest("article").hidden);
  $("#count").textContent = `${visible.length} of ${rows.length} rows`;
  $("#nothing").hidden = visible.length > 0;
  $$(".board").forEach(rove);
}
function columns() {
  for (const box of $$(".column")) {
    for (const cell of $$(`[data-column="${box.value}"]`)) cell.hidden = !box.checked;
  }
  $$(".board").forEach(rove);
}
$("#tools").addEventListener("submit", (event) => event.preventDefault());
$("#filter").addEventListener("input", filter);
for (const name of ["dataset", "label", "starred"]) $(`#${name}`)?.addEventListener("change", filter);
for (const box of $$(".column")) box.addEventListener("change", columns);
$("#spread").addEventListener("change", (event) => root.classList.toggle("no-sd", !event.target.checked));
document.addEventListener("click", (event) => {
  for (const menu of $$(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
for (const menu of $$(".menu")) {
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && menu.open) { menu.open = false; $("summary", menu).focus(); }
  });
}

/* Cells of a table: one of them is in the tab order, arrow keys move, Enter opens. */
const visible = (node) => !node.hidden && !node.parentNode.hidden;
function rove(table, to) {
  const cells = $$("td[data-key]", table);
  const chosen = to instanceof Element ? to : cells.find((c) => c.tabIndex === 0 && visible(c)) ?? cells.find(visible);
  for (const cell of cells) cell.tabIndex = cell === chosen ? 0 : -1;
}
function step(cell, event) {
  const row = cell.parentNode, rows = [...row.parentNode.rows].filter((r) => !r.hidden);
  const cells = [...row.cells].filter((c) => c.dataset.key && visible(c)), at = cells.indexOf(cell);
  const up = rows[rows.indexOf(row) - 1], down = rows[rows.indexOf(row) + 1];
  const below = (other) => other && (other.cells[cell.cellIndex].dataset.key ? other.cells[cell.cellIndex] : null);
  const target = {
    ArrowRight: cells[at + 1], ArrowLeft: cells[at - 1], Home: cells[0], End: cells[cells.length - 1],
    ArrowDown: below(down), ArrowUp: below(up),
  }[event.key];
  if (!target) return;
  event.preventDefault();
  rove(cell.closest("table"), target);
  target.focus();
}
for (const table of $$(".board")) {
  table.setAttribute("role", "grid");
  for (const cell of $$("td[data-key]", table)) cell.setAttribute("aria-haspopup", "dialog");
  table.addEventListener("keydown", (event) => {
    const cell = event.target.closest("td[data-key]");
    if (!cell) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); about(cell.dataset.key, cell); }
    else step(cell, event);
  });
  table.addEventListener("click", (event) => {
    const cell = event.target.closest("td[data-key]");
    if (cell && getSelection().isCollapsed) { rove(table, cell); about(cell.dataset.key, cell); }
  });
}

addEventListener("beforeprint", () => { for (const fold of $$("main details:not(.menu)")) fold.open = true; });

/* Tooltip */
const tip = $("#tip");
let tipped = null;
function showTip(node, lines) {
  hideTip();
  tip.replaceChildren(...lines.filter(Boolean).map(([text, kind]) => el("p", { class: kind }, text)));
  tip.hidden = false;
  const box = node.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const left = Math.max(8, Math.min(box.left, root.clientWidth - own.width - 8));
  const below = box.bottom + 6 + own.height < innerHeight;
  tip.style.left = `${left}px`;
  tip.style.top = `${Math.max(4, below ? box.bottom + 6 : box.top - own.height - 6)}px`;
  node.setAttribute("aria-describedby", "tip");
  tipped = node;
}
function hideTip() {
  tip.hidden = true;
  tipped?.removeAttribute("aria-describedby");
  tipped = null;
}
function summary(name) {
  const detail = data.details[name];
  const p = detail.facts.find(([fact]) => fact === "p, corrected");
  return [
    [detail.title],
    ...detail.seeds.map((s) => [`seed ${s.seed}: ${s.text}${s.why ? ` (${s.why})` : ""}`]),
    p && [`p, corrected: ${p[1]}`],
    ["Click or Enter: where it comes from", "hint"],
  ];
}
function hint(node, lines) {
  node.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") showTip(node, lines()); });
  node.addEventListener("pointerleave", hideTip);
  node.addEventListener("focus", () => { if (node.matches(":focus-visible")) showTip(node, lines()); });
  node.addEventListener("blur", hideTip);
}
for (const cell of $$("td[data-key]")) hint(cell, () => summary(cell.dataset.key));
addEventListener("scroll", hideTip, { passive: true, capture: true });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });

/* Where a number comes from */
const dialog = $("#about");
const pairs = (facts) => el("dl", {}, facts.map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
function about(name, from) {
  const detail = data.details[name], block = from.closest("article");
  hideTip();
  $("#about-h").textContent = `${detail.title} · ${$("h3", block).textContent}`;
  const seeds = el("table", {},
    el("thead", {}, el("tr", {}, ["seed", "value", "as stored"].map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, detail.seeds.map((s) => el("tr", {},
      el("th", { scope: "row" }, String(s.seed)), el("td", {}, s.text), el("td", { class: "exact" }, s.exact ?? s.why ?? "")))));
  const done = detail.seeds.filter((s) => s.cell !== undefined);
  const cells = done.map((s, i) => el("details", { open: i === 0 },
    el("summary", {}, `seed ${s.seed}: ${data.cells[s.cell].path}`), pairs(data.cells[s.cell].facts)));
  $(".body", dialog).replaceChildren(seeds, pairs(detail.facts), ...(cells.length ? [el("h3", {}, "Cells")] : []), ...cells);
  dialog.showModal();
  dialog.scrollTop = 0;
  $("#close").focus();
}
$("#close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

function select(name, options, change) {
  const node = el("select", { onchange: change }, options.map(([value, text]) => el("option", { value }, text)));
  return [el("label", {}, `${name} `, node), node];
}

/* Trade-offs */
function ticks(low, high, log) {
  if (log) {
    const out = [];
    for (let e = Math.floor(low); e <= Math.ceil(high); e++) if (e >= low && e <= high) out.push(e);
    return out.length > 1 ? out : [low, high];
  }
  const rough = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(rough));
  const gap = [1, 2, 5, 10].map((m) => m * unit).find((g) => g >= rough);
  const out = [];
  for (let i = Math.ceil(low / gap - 1e-9); i * gap <= high + gap * 1e-9; i++) out.push(i * gap + 0);
  return out;
}
function scale(points, index, from, to) {
  const values = points.map((p) => p.values[index]);
  const means = values.map((v) => v.mean);
  const log = data.tradeoffs.axes[index].kind === "cost" && Math.min(...means) > 0 && Math.max(...means) / Math.min(...means) > 30;
  const put = (x) => (log ? Math.log10(x) : x);
  let low = Math.min(...values.map((v) => put(v.mean - (v.std ?? 0)))), high = Math.max(...values.map((v) => put(v.mean + (v.std ?? 0))));
  const pad = (high - low) * 0.07 || Math.abs(high) * 0.1 || 1;
  low -= pad; high += pad;
  const place = (x) => from + ((put(x) - low) / (high - low)) * (to - from);
  const short = (x) => (log ? 10 ** x : x).toLocaleString("en", { maximumSignificantDigits: 3 });
  return { place, ticks: ticks(low, high, log).map((x) => [from + ((x - low) / (high - low)) * (to - from), short(x)]), log };
}
function labels(spots, width) {
  /* Each name goes to the first of eight places beside its point where it covers no point and no other name, the most important first. */
  const taken = spots.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]), out = [];
  for (const i of spots.map((_, j) => j).sort((a, b) => spots[b][3] - spots[a][3])) {
    const [x, y, text] = spots[i];
    const w = text.length * 6.7 + 2, h = 13;
    const places = [[9, 4], [-9 - w, 4], [-w / 2, -10], [-w / 2, 19], [8, -7], [8, 16], [-8 - w, -7], [-8 - w, 16]];
    for (const [dx, dy] of places) {
      const box = [x + dx, y + dy - h + 2, x + dx + w, y + dy + 2];
      const free = taken.every((t, j) => j === i || box[2] < t[0] || t[2] < box[0] || box[3] < t[1] || t[3] < box[1]);
      if (free && box[0] >= 0 && box[2] <= width) {
        taken.push(box);
        out[i] = [x + dx, y + dy];
        break;
      }
    }
  }
  return out;
}
function tradeoffs() {
  const { axes, blocks } = data.tradeoffs, box = $("#plot");
  const options = (wanted) => axes.map((a, i) => [i, a]).filter(([, a]) => wanted(a)).map(([i, a]) => [String(i), a.text]);
  const [blockLabel, block] = select("Block", blocks.map((b, i) => [String(i), b.title]), draw);
  const [yLabel, y] = select("Quality", options((a) => a.kind !== "cost"), draw);
  const [xLabel, x] = select("Against", options(() => true), draw);
  const other = axes.findIndex((a) => a.kind === "list");
  x.value = String(other > 0 ? other : Math.min(1, axes.length - 1));
  const plot = el("div", { class: "plot" }), said = el("p", { class: "caption", "aria-live": "polite" });
  const table = el("details", {}, el("summary", {}, "The same as a table"), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Trade-off as a table" }));
  box.append(el("div", { class: "picks" }, blocks.length > 1 ? blockLabel : null, yLabel, xLabel), plot, said, table);
  function draw() {
    const b = blocks[Number(block.value)], xi = Number(x.value), yi = Number(y.value);
    if (xi === yi) {
      plot.replaceChildren();
      said.textContent = "Both axes show the same; choose another.";
      return $(".scroll", table).replaceChildren();
    }
    const on = new Set(b.fronts[`${xi},${yi}`]);
    const numbered = b.points.map((p, i) => ({ ...p, on: on.has(i) }));
    const points = numbered.sort((a, c) => a.on + a.baseline - c.on - c.baseline).filter((p) => p.values[xi] && p.values[yi]), left = numbered.filter((p) => !points.includes(p));
    const front = b.fronts[`${xi},${yi}`].map((i) => b.points[i]);
    const without = left.length ? ` Not drawn, since a value is missing: ${left.map((p) => p.label).join(", ")}.` : "";
    if (!points.length) {
      plot.replaceChildren();
      $(".scroll", table).replaceChildren();
      said.textContent = `No row of ${b.title} has both values.`;
      return;
    }
    const width = Math.min(box.clientWidth || 700, 860), height = Math.round(Math.min(470, Math.max(320, width * 0.6)));
    const m = { left: 58, right: 14, top: 14, bottom: 50 };
    const sx = scale(points, xi, m.left, width - m.right), sy = scale(points, yi, height - m.bottom, m.top);
    const title = `${axes[yi].name} against ${axes[xi].name}, ${b.title}`;
    const spots = points.map((p) => [sx.place(p.values[xi].mean), sy.place(p.values[yi].mean), p.label, 2 * p.on + p.baseline]);
    const named = labels(spots, width);
    const way = (a, s) => `${a.text.slice(0, -2)}${s.log ? ", logarithmic" : ""} (${a.better} is better)`;
    const corners = front.map((p) => [sx.place(p.values[xi].mean), sy.place(p.values[yi].mean)]);
    const turn = axes[xi].better === "lower" ? ([px, py]) => `H${px}V${py}` : ([px, py]) => `V${py}H${px}`;
    const stairs = `M${corners[0]}${corners.slice(1).map(turn).join("")}`;
    const dots = points.map((p, i) => {
      const [px, py] = spots[i], vx = p.values[xi], vy = p.values[yi];
      const text = `${p.label}: ${axes[yi].name} ${vy.text}, ${axes[xi].name} ${vx.text}${p.on ? ", on the front" : ""}${p.baseline ? ", the baseline" : ""}`;
      const bars = [
        vx.std ? svg("path", { class: "sd-line", d: `M${sx.place(vx.mean - vx.std)},${py}H${sx.place(vx.mean + vx.std)}` }) : null,
        vy.std ? svg("path", { class: "sd-line", d: `M${px},${sy.place(vy.mean - vy.std)}V${sy.place(vy.mean + vy.std)}` }) : null,
      ];
      const mark = p.baseline ? svg("rect", { class: "dot", x: px - 4.5, y: py - 4.5, width: 9, height: 9 }) : svg("circle", { class: "dot", cx: px, cy: py, r: 5 });
      const node = svg("g", { class: p.on ? "point on" : "point", tabindex: "0", role: "img", "aria-label": text }, bars, mark,
        named[i] ? svg("text", { class: "name", x: named[i][0], y: named[i][1] }, p.label) : null);
      hint(node, () => [[p.label + (p.baseline ? " (baseline)" : "")], [`${axes[yi].name} ${vy.text}`], [`${axes[xi].name} ${vx.text}`],
        [p.on ? "on the front" : "not on the front", "hint"]]);
      return node;
    });
    plot.replaceChildren(svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": title },
      sx.ticks.map(([at, text]) => [svg("path", { class: "grid", d: `M${at},${m.top}V${height - m.bottom}` }),
        svg("text", { x: at, y: height - m.bottom + 16, "text-anchor": "middle" }, text)]),
      sy.ticks.map(([at, text]) => [svg("path", { class: "grid", d: `M${m.left},${at}H${width - m.right}` }),
        svg("text", { x: m.left - 7, y: at + 4, "text-anchor": "end" }, text)]),
      svg("text", { class: "name", x: (m.left + width - m.right) / 2, y: height - 10, "text-anchor": "middle" }, way(axes[xi], sx)),
      svg("text", { class: "name", transform: `translate(13 ${(height - m.bottom + m.top) / 2}) rotate(-90)`, "text-anchor": "middle" }, way(axes[yi], sy)),
      front.length > 1 ? svg("path", { class: "front", d: stairs }) : null, dots));
    const unnamed = points.filter((p, i) => !named[i]).map((p) => p.label);
    const crowded = unnamed.length ? ` Without a name for want of room: ${unnamed.join(", ")}.` : "";
    said.textContent = `On the front: ${front.map((p) => p.label).join(", ")}.${crowded}${without}`;
    $(".scroll", table).replaceChildren(el("table", {},
      el("thead", {}, el("tr", {}, ["", axes[yi].text, axes[xi].text, "front"].map((text, i) => el("th", { scope: "col", class: i === 0 ? "row" : i < 3 ? "num" : null }, text)))),
      el("tbody", {}, numbered.map((p) => el("tr", {}, el("th", { scope: "row", class: "row" }, p.label),
        el("td", { class: "num" }, p.values[yi]?.text ?? "—"), el("td", { class: "num" }, p.values[xi]?.text ?? "—"), el("td", {}, p.on ? "yes" : "no"))))));
  }
  draw();
  let width = box.clientWidth;
  addEventListener("resize", () => { if (box.clientWidth !== width) { width = box.clientWidth; draw(); } });
}
tradeoffs();

/* Case studies */
function study() {
  const box = $("#study");
  if (!data.cases.length) return;
  const [setLabel, set] = select("Data set", data.cases.map((c, i) => [String(i), c.dataset]), choose);
  const [boardLabel, board] = select("Block", [], draw);
  const [userLabel, user] = select("User", [], draw);
  const move = (by) => { user.selectedIndex = (user.selectedIndex + by + user.length) % user.length; draw(); };
  const back = el("button", { type: "button", class: "quiet", onclick: () => move(-1) }, "Previous");
  const next = el("button", { type: "button", class: "quiet", onclick: () => move(1) }, "Next");
  const how = el("p", { class: "prose" }), out = el("div", { class: "study", "aria-live": "polite" });
  const fill = (node, texts) => node.replaceChildren(...texts.map((text, i) => el("option", { value: String(i) }, text)));
  box.append(how, el("div", { class: "picks" }, data.cases.length > 1 ? setLabel : null, boardLabel, userLabel, back, next), out);
  const item = (c, i) => {
    if (i < 0) return [el("span", { class: "seen" }, "no item of the catalogue")];
    const [id, title, group] = c.items[i];
    return [el("span", { class: "badge", title: `popularity group ${group}`, "aria-label": `group ${group}` }, String(group)), title || id];
  };
  function choose() {
    const c = data.cases[Number(set.value)];
    fill(board, c.boards.map((b) => b.title));
    fill(user, c.users.map((u) => `${u.id} (${u.why})`));
    boardLabel.hidden = c.boards.length < 2;
    const split = c.split ? `${c.split} are those on whom the rankers' ${c.primary} differs most (standard deviation over rankers), ` : "";
    how.textContent = `${c.users.length} of ${c.test_users.toLocaleString("en")} test users: ${split}${c.users.length - c.split} are drawn at random. `
      + `Lists of one seed, ${c.seed}. The small number before a title is its popularity group, 0 the most popular. A hit, the target in a list, is shaded and says so.`;
    draw();
  }
  function draw() {
    const c = data.cases[Number(set.value)], u = c.users[user.selectedIndex], b = c.boards[board.selectedIndex];
    const history = new Set(u.history);
    const lists = b.rows.map((row) => (row.cell === null ? null : u.lists[row.cell]));
    const depth = Math.max(0, ...lists.map((list) => list?.length ?? 0));
    const places = lists.map((list) => (list ? list.indexOf(u.target) + 1 : 0));
    const heads = b.rows.map((row, i) => {
      const place = !lists[i] ? row.why : places[i] ? `target at place ${places[i]}` : `target not in these ${lists[i].length}`;
      const value = row.cell !== null && u.values[row.cell] !== undefined ? `${c.primary} ${u.values[row.cell]}` : null;
      return el("th", { scope: "col", "data-row": row.label }, row.label, el("small", {}, place), value ? el("small", {}, value) : null);
    });
    const rows = Array.from({ length: depth }, (_, k) => el("tr", {}, el("th", { scope: "row", class: "row" }, String(k + 1)),
      lists.map((list) => {
        if (!list || k >= list.length) return el("td", { class: "absent" }, "—");
        const hit = list[k] === u.target && list[k] >= 0;
        return el("td", { class: hit ? "hit" : null }, item(c, list[k]), hit ? "\u00a0(hit)" : null, !hit && history.has(list[k]) && list[k] >= 0 ? el("span", { class: "seen" }, " in the history") : null);
      })));
    out.replaceChildren(
      el("h3", {}, `History of user ${u.id}, oldest first`),
      el("ol", { class: "history" }, u.history.map((i) => el("li", {}, item(c, i)))),
      el("h3", {}, "Target"), el("p", { class: "target" }, item(c, u.target)),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Lists for user ${u.id}` },
        el("table", { class: "lists" }, el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "row" }, "place"), heads)), el("tbody", {}, rows))));
  }
  choose();
}
study();
columns();
filter();
})();
