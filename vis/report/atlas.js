// Zooms the map, moves it, and tells of the picture that is chosen.
"use strict";

const cells = JSON.parse(document.getElementById("data").textContent);
const one = (query, root = document) => root.querySelector(query);
const all = (query, root = document) => [...root.querySelectorAll(query)];
const within = (value, low, high) => Math.min(Math.max(value, low), high);

const view = one("#window"), grid = one(".grid"), zoom = one("#zoom"), buttons = all(".cell");
const READABLE = 64; // CSS pixels of a cell: below, words are left out
const STEP = 1.25;
const [PADDING, GAP] = [4, 3]; // of the map, as its style has them
let chosen = -1;

// ---- Zoom ----

// Makes cells of a size; what is at a place of the window, by default its middle, stays there.
function resize(size, x = view.clientWidth / 2, y = view.clientHeight / 2) {
  const before = parseFloat(getComputedStyle(grid).getPropertyValue("--cell"));
  const cell = within(size, Number(zoom.min), Number(zoom.max));
  const [across, down] = [view.scrollLeft + x, view.scrollTop + y];
  grid.style.setProperty("--cell", `${cell}px`);
  view.classList.toggle("far", cell < READABLE);
  zoom.value = cell;
  view.scrollLeft = (across * cell) / before - x;
  view.scrollTop = (down * cell) / before - y;
}

// Makes the whole map fit into its window: into its width, and, if that is too high, into its height, without words if
// these make it so small that they are left out anyway.
function fit() {
  const [rows, columns, high] = ["--rows", "--columns", "--high"].map((name) => Number(grid.style.getPropertyValue(name)));
  const wide = Math.floor((view.clientWidth - 2 * PADDING + GAP) / columns) - GAP;
  const room = (parseFloat(getComputedStyle(view).maxHeight) - 2 * PADDING) / rows - GAP - 1;
  const words = () => Math.max(...buttons.map((button) => button.offsetHeight)) - size() * high;
  resize(wide);
  if (room < wide * high + words()) resize(Math.floor((room - words()) / high));
  if (size() < READABLE) resize(Math.min(wide, READABLE - 1, Math.floor(room / high)));
  view.scrollTo(0, 0);
}

const size = () => Number(zoom.value);

// ---- The picture that is chosen ----

function tell(index) {
  const cell = cells[index], picture = one("img", buttons[index]);
  const head = document.createElement("div"), list = document.createElement("ol");
  const title = Object.assign(document.createElement("h3"), { textContent: picture.alt });
  const count = Object.assign(document.createElement("p"), { textContent: `The average of ${cell.count} activations` });
  for (const [name, value] of cell.classes) {
    const item = list.appendChild(document.createElement("li"));
    for (const words of [name, `+${value}`]) {
      item.appendChild(document.createElement("span")).textContent = words;
    }
  }
  const words = cell.classes.length ? list : document.createTextNode("It speaks for no class.");
  head.append(title, count, words);
  const large = Object.assign(picture.cloneNode(), { alt: "" });
  if (view.classList.contains("small")) large.style.imageRendering = "pixelated";
  one("#chosen").replaceChildren(large, head);
}

function choose(index, focus = true) {
  buttons.forEach((button, i) => {
    button.tabIndex = i === index ? 0 : -1; // Tab comes to one of them only
    button.setAttribute("aria-pressed", String(i === index && focus));
  });
  chosen = index;
  if (!focus) return;
  buttons[index].focus({ preventScroll: true });
  buttons[index].scrollIntoView({ block: "nearest", inline: "nearest" });
  tell(index);
}

// Returns the nearest picture in a direction, or the same where there is none.
function next(index, rows, columns) {
  const here = cells[index];
  let best = index, least = Infinity;
  cells.forEach((cell, i) => {
    const [down, across] = [cell.row - here.row, cell.column - here.column];
    const along = down * rows + across * columns;
    const cost = along + 3 * Math.abs(rows ? across : down);
    if (along > 0 && cost < least) [best, least] = [i, cost];
  });
  return best;
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const KEYS = {
  "+": () => resize(size() * STEP),
  "=": () => resize(size() * STEP),
  "-": () => resize(size() / STEP),
  0: fit,
  Home: () => choose(0),
  End: () => choose(cells.length - 1),
};

view.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (!arrow && !KEYS[event.key]) return;
  event.preventDefault();
  if (arrow) choose(next(chosen, ...arrow));
  else {
    KEYS[event.key]();
    buttons[chosen].scrollIntoView({ block: "nearest", inline: "nearest" });
  }
});

// ---- The pointer ----

let start = null, dragged = false;

view.addEventListener("pointerdown", (event) => {
  dragged = false;
  if (event.pointerType === "mouse" && event.button === 0) {
    start = { x: event.clientX, y: event.clientY, left: view.scrollLeft, top: view.scrollTop };
  }
});
addEventListener("pointermove", (event) => {
  if (!start) return;
  const [x, y] = [event.clientX - start.x, event.clientY - start.y];
  dragged ||= Math.hypot(x, y) > 5;
  if (!dragged) return;
  view.classList.add("moved");
  view.scrollTo(start.left - x, start.top - y);
});
addEventListener("pointerup", () => {
  start = null;
  view.classList.remove("moved");
});
view.addEventListener("dragstart", (event) => event.preventDefault());
view.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  const box = view.getBoundingClientRect();
  resize(size() * STEP ** (-event.deltaY / 100), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });

// ---- Start ----

buttons.forEach((button, i) => button.addEventListener("click", () => dragged || choose(i)));
zoom.addEventListener("input", () => resize(size()));
one("#in").addEventListener("click", () => resize(size() * STEP));
one("#out").addEventListener("click", () => resize(size() / STEP));
one("#fit").addEventListener("click", fit);
one("#class").addEventListener("change", (event) => {
  const name = event.target.value;
  buttons.forEach((button, i) => {
    const own = cells[i].classes.slice(0, 2).some(([known]) => known === name);
    button.classList.toggle("other", Boolean(name) && !own);
  });
});
document.documentElement.classList.add("works");
choose(0, false);
fit();
