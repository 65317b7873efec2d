// Draws the maps from their values, tells the values under the pointer, sorts the table and follows the curves.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const one = (query, root = document) => root.querySelector(query);
const all = (query, root = document) => [...root.querySelectorAll(query)];
const within = (value, low, high) => Math.min(Math.max(value, low), high);

// ---- Maps: from text to values (vis/report/packing.py does the opposite), to colours, to pictures ----

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

async function inflated(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function levelsOf(bytes, width, order) {
  const count = bytes.length / 2;
  const levels = new Int16Array(count); // sums wrap around at 16 bits, as the differences did
  for (let i = 0; i < count; i++) {
    const folded = bytes[i] | (bytes[i + count] << 8);
    levels[i] = (folded >>> 1) ^ -(folded & 1);
  }
  if (order) {
    for (let i = 0; i < count; i++) if (i % width) levels[i] += levels[i - 1];
    for (let i = width; i < count; i++) levels[i] += levels[i - width];
  }
  return levels;
}

function tableOf(name) {
  const colours = bytesOf(data.tables[name]);
  const rgba = new Uint8Array(4 * 256).fill(255);
  for (let i = 0; i < 256; i++) rgba.set(colours.subarray(3 * i, 3 * i + 3), 4 * i);
  return new Uint32Array(rgba.buffer);
}

function canvasOf() {
  return Object.assign(document.createElement("canvas"), { width: data.width, height: data.height });
}

// Paints the colours of a map, without its image.
function paint(map) {
  const table = tableOf(one(map.signed ? "#sign" : "#strength").value);
  const pixels = new ImageData(data.width, data.height);
  const words = new Uint32Array(pixels.data.buffer);
  const [low, high] = map.ends;
  const scale = (255 * map.step) / (high - low);
  const start = (255 * (map.origin - low)) / (high - low) + 0.5;
  for (let i = 0; i < words.length; i++) words[i] = table[within(Math.floor(start + scale * map.levels[i]), 0, 255)];
  map.colours.getContext("2d").putImageData(pixels, 0, 0);
}

// Puts the colours over the image.
function compose(map) {
  const context = map.canvas.getContext("2d");
  context.globalAlpha = 1;
  context.drawImage(map.image, 0, 0, data.width, data.height);
  context.globalAlpha = one("#opacity").value / 100;
  context.drawImage(map.colours, 0, 0);
}

async function makeMap(packed, index, picture, image) {
  const levels = levelsOf(await inflated(packed.text), data.width, packed.order);
  const signed = data.signed[Math.floor(index / data.images)];
  const map = { ...packed, levels, signed, image, canvas: canvasOf(), colours: canvasOf() };
  const still = one("img", picture);
  map.canvas.setAttribute("role", "img");
  map.canvas.setAttribute("aria-label", still.alt);
  map.name = one("b", picture.parentElement).textContent;
  map.output = one("output", picture.parentElement);
  map.range = one(".range", picture.parentElement);
  paint(map);
  compose(map);
  still.replaceWith(map.canvas);
  return map;
}

// Returns the value at a position: its last digit is no finer than half a step, by which the value may be wrong.
function written(map, place) {
  const value = map.origin + map.step * map.levels[place];
  if (!map.step) return String(Number(value.toPrecision(7)));
  const unit = Math.ceil(Math.log10(map.step / 2) - 1e-9); // the last digit stands for 10 to this power
  const top = value ? Math.floor(Math.log10(Math.abs(value))) : unit;
  const plain = unit <= 0 && unit >= -6 ? value.toFixed(-unit) : value.toExponential(within(top - unit, 0, 20));
  return plain.replace(/-/g, "\u2212");
}

// ---- The pointer: one position for all pictures of an image ----

const placeOf = (row, column) =>
  data.steps === null ? `row ${row}, column ${column}` : `step ${Math.floor(column * data.steps + 1e-6)}`;

function show(article, maps, row, column, speak) {
  article.style.setProperty("--row", `${(100 * (row + 0.5)) / data.height}%`);
  article.style.setProperty("--column", `${(100 * (column + 0.5)) / data.width}%`);
  article.classList.add("probed");
  one(".place", article).textContent = placeOf(row, column);
  for (const map of maps) {
    map.output.value = written(map, row * data.width + column);
    map.output.hidden = false;
    map.range.hidden = true;
  }
  if (speak) {
    const words = maps.map((map) => `${map.name} ${map.output.value}`).join("; ");
    one("#said").textContent = `${placeOf(row, column)}: ${words}`;
  }
}

function hide(article, maps) {
  article.classList.remove("probed");
  one(".place", article).textContent = "";
  for (const map of maps) {
    map.output.hidden = true;
    map.range.hidden = false;
  }
}

function followPointer(article, maps) {
  let [row, column] = [data.height >> 1, data.width >> 1];
  const keys = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const point = (event) => {
    const picture = event.target.closest(".picture");
    if (!picture) return;
    const box = picture.getBoundingClientRect();
    row = within(Math.floor(((event.clientY - box.top) / box.height) * data.height), 0, data.height - 1);
    column = within(Math.floor(((event.clientX - box.left) / box.width) * data.width), 0, data.width - 1);
    show(article, maps, row, column, false);
  };
  article.tabIndex = 0;
  article.addEventListener("pointermove", point);
  article.addEventListener("pointerdown", point);
  article.addEventListener("pointerleave", () => document.activeElement === article || hide(article, maps));
  article.addEventListener("blur", () => hide(article, maps));
  article.addEventListener("focus", () => show(article, maps, row, column, article.matches(":focus-visible")));
  article.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide(article, maps);
    const move = keys[event.key];
    if (!move || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const far = (event.shiftKey ? 10 : 1) * (data.steps === null ? 1 : Math.max(1, Math.round(1 / data.steps)));
    row = within(row + far * move[0], 0, data.height - 1);
    column = within(column + far * move[1], 0, data.width - 1);
    show(article, maps, row, column, true);
  });
}

async function startMaps() {
  const articles = all(".image");
  const maps = [];
  const redraw = (draw) => maps.forEach(draw);
  let waiting = false;
  one("#opacity").addEventListener("input", (event) => {
    one("output[for=opacity]").value = `${event.target.value} %`;
    if (!waiting) requestAnimationFrame(() => ((waiting = false), redraw(compose)));
    waiting = true;
  });
  const section = one("#maps");
  one("#size").value = parseInt(getComputedStyle(section).getPropertyValue("--size"), 10);
  one("#size").addEventListener("input", (event) => section.style.setProperty("--size", `${event.target.value}px`));
  for (const kind of ["strength", "sign"]) {
    one(`#${kind}`)?.addEventListener("change", (event) => {
      drawBar(kind, event.target.value);
      redraw((map) => map.signed === (kind === "sign") && (paint(map), compose(map)));
    });
  }
  for (const [i, article] of articles.entries()) {
    const image = one(".picture img", article);
    const own = [];
    await image.decode();
    for (const [j, picture] of all(".map", article).entries()) {
      const index = j * data.images + i;
      own.push(await makeMap(data.maps[index], index, picture, image));
    }
    maps.push(...own);
    followPointer(article, own);
  }
}

function drawBar(kind, name) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 256, height: 1 });
  const pixels = new ImageData(256, 1);
  new Uint32Array(pixels.data.buffer).set(tableOf(name));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  one(`#${kind}-bar`).src = canvas.toDataURL();
}

// ---- The table ----

function keyOf(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.number === undefined) return cell.textContent.trim();
  return cell.dataset.number === "" ? null : Number(cell.dataset.number);
}

// What is not known stays at the end, whichever way the table is sorted.
function compared(a, b, way) {
  if (a === null || b === null) return (a === null) - (b === null);
  return way * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
}

function sort(heading) {
  const way = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const body = one("tbody");
  const rows = [...body.rows].map((row) => [keyOf(row, heading.cellIndex), row]);
  rows.sort(([a], [b]) => compared(a, b, way));
  body.append(...rows.map(([, row]) => row));
  all("thead th").forEach((other) => other.setAttribute("aria-sort", "none"));
  heading.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
}

function startTable() {
  for (const heading of all("thead th")) one("button", heading).addEventListener("click", () => sort(heading));
  one("#group").addEventListener("change", (event) => {
    for (const row of all("tbody tr")) row.hidden = event.target.value !== "" && row.dataset.group !== event.target.value;
  });
}

// ---- Curves ----

function startChart(chart, values) {
  const svg = one("svg", chart);
  const now = one(".now", chart);
  const outputs = all(".legend output", chart);
  const steps = values[0].length - 1;
  const ends = { left: Number(one(".grid", svg).getAttribute("x1")), right: Number(one(".grid", svg).getAttribute("x2")) };
  let step = 0;
  const tell = (next) => {
    step = within(next, 0, steps);
    const x = ends.left + ((ends.right - ends.left) * step) / steps;
    now.setAttribute("x1", x);
    now.setAttribute("x2", x);
    now.setAttribute("visibility", "visible");
    one(".now-words", chart).textContent = `at ${Number(((100 * step) / steps).toPrecision(3))} %`;
    outputs.forEach((output, i) => (output.value = nearest(values[i], step, steps)));
  };
  const end = () => {
    now.setAttribute("visibility", "hidden");
    one(".now-words", chart).textContent = "";
    outputs.forEach((output) => (output.value = ""));
  };
  svg.tabIndex = 0;
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    tell(Math.round(((x - ends.left) / (ends.right - ends.left)) * steps));
  });
  svg.addEventListener("pointerleave", () => document.activeElement === svg || end());
  svg.addEventListener("focus", () => tell(step));
  svg.addEventListener("blur", end);
  svg.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: step - 1, ArrowRight: step + 1, Home: 0, End: steps };
    if (!(event.key in moves)) return;
    event.preventDefault();
    tell(moves[event.key]);
  });
}

// Returns the value of a curve at a step; curves of one chart may have other numbers of steps.
function nearest(curve, step, steps) {
  return curve[Math.round((step / steps) * (curve.length - 1))].toPrecision(4).replace(/-/g, "\u2212");
}

function startCurves() {
  all(".chart").forEach((chart, i) => startChart(chart, data.charts[i]));
  for (const box of all(".legend input")) {
    box.addEventListener("change", () => {
      const same = `[data-method="${box.dataset.method}"]`;
      all(`.legend input${same}`).forEach((other) => (other.checked = box.checked));
      all(`.chart g${same}`).forEach((line) => line.setAttribute("visibility", box.checked ? "visible" : "hidden"));
    });
  }
}

// ---- The call ----

async function copy() {
  const code = one("#call");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    getSelection().selectAllChildren(code); // no clipboard where the page came over plain http
    document.execCommand("copy");
  }
  one("#copied").textContent = "Copied";
  setTimeout(() => (one("#copied").textContent = ""), 3000);
}

function start() {
  document.documentElement.classList.add("works");
  document.documentElement.classList.toggle("small", data.width <= 96);
  one("#copy").addEventListener("click", copy);
  if (one("#numbers")) startTable();
  if (one("#curves")) startCurves();
  if (one("#maps")) startMaps().then(() => document.documentElement.classList.add("drawn"));
}

if (window.DecompressionStream) start(); // older browsers keep the page as it is without scripts
