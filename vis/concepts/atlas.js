"use strict";
{
  const view = document.getElementById("view"), sheet = document.getElementById("sheet"), said = document.getElementById("said");
  const MOST = 40, STEP = 1.4, MOVE = 60;
  const pointers = new Map();
  let scale = 1, x = 0, y = 0;

  function place() {
    const most = { x: sheet.offsetLeft + sheet.offsetWidth * scale - view.clientWidth, y: sheet.offsetHeight * scale - view.clientHeight };
    x = scale === 1 ? 0 : Math.min(sheet.offsetLeft, Math.max(x, -most.x)); // the sheet does not leave the view
    y = scale === 1 ? 0 : Math.min(0, Math.max(y, -Math.max(most.y, 0)));
    sheet.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    view.dataset.scale = scale.toFixed(3);
  }

  // Zooms so that what is at a point of the view stays there.
  function zoom(factor, left, top) {
    const next = Math.min(MOST, Math.max(1, scale * factor));
    const across = left - sheet.offsetLeft, down = top;
    x = across - ((across - x) * next) / scale;
    y = down - ((down - y) * next) / scale;
    scale = next;
    place();
  }

  function zoomMiddle(factor) {
    zoom(factor, view.clientWidth / 2, view.clientHeight / 2);
  }

  function at(event) {
    const box = view.getBoundingClientRect();
    return { left: event.clientX - box.left - view.clientLeft, top: event.clientY - box.top - view.clientTop };
  }

  function tell(event) {
    const cell = event.target.closest(".cell");
    said.textContent = cell ? cell.dataset.words : "";
  }

  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    const here = at(event);
    zoom(event.deltaY < 0 ? STEP : 1 / STEP, here.left, here.top);
  }, { passive: false });
  view.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, at(event));
    view.setPointerCapture(event.pointerId);
  });
  view.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId), here = at(event);
    if (!before) return tell(event);
    const other = [...pointers].find(([id]) => id !== event.pointerId);
    if (other) {
      const spread = (one) => Math.hypot(one.left - other[1].left, one.top - other[1].top);
      zoom(spread(here) / Math.max(spread(before), 1), (here.left + other[1].left) / 2, (here.top + other[1].top) / 2);
    } else {
      x += here.left - before.left;
      y += here.top - before.top;
      place();
    }
    pointers.set(event.pointerId, here);
  });
  for (const name of ["pointerup", "pointercancel"]) view.addEventListener(name, (event) => pointers.delete(event.pointerId));
  view.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [MOVE, 0], ArrowRight: [-MOVE, 0], ArrowUp: [0, MOVE], ArrowDown: [0, -MOVE] }[event.key];
    if (moves) { x += moves[0]; y += moves[1]; place(); }
    else if (event.key === "+" || event.key === "=") zoomMiddle(STEP);
    else if (event.key === "-") zoomMiddle(1 / STEP);
    else if (event.key === "0") { scale = 1; place(); }
    else return;
    event.preventDefault();
  });
  document.getElementById("closer").addEventListener("click", () => zoomMiddle(STEP));
  document.getElementById("farther").addEventListener("click", () => zoomMiddle(1 / STEP));
  document.getElementById("whole").addEventListener("click", () => { scale = 1; place(); });
  document.getElementById("class").addEventListener("change", (event) => {
    for (const cell of sheet.children) cell.classList.toggle("others", event.target.value !== "" && cell.dataset.label !== event.target.value);
  });
  window.addEventListener("resize", place);
  document.documentElement.classList.add("works");
  place();
}
