"use strict";
// Tables sort by a click on a head, long ones are filtered by words, figures say what is under the pointer. Without it all is there.
addEventListener("DOMContentLoaded", () => {
  const LONG = 10, NEAR = 45;

  function read(cell) {
    const text = cell.textContent.trim(), plain = text.replaceAll(",", "").replace("−", "-");
    const value = /^[-+]?\d*\.?\d+(e[-+]?\d+)?%?(?=$|\s)/i.test(plain) ? parseFloat(plain) : NaN;
    return { text, value, missing: text === "" || text === "-" };
  }

  function compare(a, b) {
    if (!Number.isNaN(a.value) && !Number.isNaN(b.value)) return a.value - b.value;
    return a.text.localeCompare(b.text, undefined, { numeric: true });
  }

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], rows = [...body.rows];
    if (rows.length < 2 || rows.some((row) => row.cells.length !== heads.length)) return;
    heads.forEach((head, at) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
        const order = next === undefined ? "ascending" : next;
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        if (order) head.setAttribute("aria-sort", order);
        const sign = order === "descending" ? -1 : 1;
        const keys = new Map(rows.map((row) => [row, read(row.cells[at])]));
        const sorted = order === null ? rows : [...rows].sort((one, other) => {
          const a = keys.get(one), b = keys.get(other);
          return a.missing - b.missing || (a.missing ? 0 : sign * compare(a, b));
        });
        body.append(...sorted);
      });
    });
  }

  function filterable(table) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length <= LONG) return;
    const field = document.createElement("input"), count = document.createElement("span"), line = document.createElement("div");
    field.type = "search";
    field.placeholder = `Filter ${rows.length} rows`;
    field.setAttribute("aria-label", `Rows that have these words, of ${rows.length}`);
    count.setAttribute("role", "status");
    line.className = "filter";
    line.append(field, count);
    table.before(line);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row) => { row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word)); });
      count.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    });
  }

  function hoverable(figure) {
    const image = figure.querySelector("img"), dot = document.createElement("i"), tip = document.createElement("span");
    const points = figure.dataset.points.split("\n").map((line) => {
      const [left, top, ...words] = line.split(" ");
      return { left: Number(left), top: Number(top), text: words.join(" ") };
    });
    let shown = -1;
    dot.className = "dot";
    tip.className = "tip";
    tip.setAttribute("role", "status");
    figure.append(dot, tip);
    figure.tabIndex = 0;

    function show(at) {
      shown = at;
      figure.classList.toggle("pointed", at >= 0);
      tip.textContent = at >= 0 ? points[at].text : "";
      if (at < 0) return;
      const { left, top } = points[at];
      const x = image.offsetLeft + left * image.offsetWidth, y = image.offsetTop + top * image.offsetHeight;
      Object.assign(dot.style, { left: `${x}px`, top: `${y}px` });
      const widest = image.offsetLeft + image.offsetWidth - tip.offsetWidth;
      tip.style.left = `${Math.max(image.offsetLeft, Math.min(x - tip.offsetWidth / 2, widest))}px`;
      tip.style.top = `${y > tip.offsetHeight + 14 ? y - tip.offsetHeight - 10 : y + 12}px`;
    }

    function point(event) {
      const box = image.getBoundingClientRect();
      let best = -1, least = NEAR;
      points.forEach(({ left, top }, at) => {
        const far = Math.hypot(box.left + left * box.width - event.clientX, box.top + top * box.height - event.clientY);
        if (far < least) [best, least] = [at, far];
      });
      show(best);
    }

    image.addEventListener("pointermove", point);
    image.addEventListener("pointerdown", point);
    new ResizeObserver(() => show(shown)).observe(image);
    figure.addEventListener("pointerleave", () => show(-1));
    figure.addEventListener("blur", () => show(-1));
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") show(-1);
      if (!step) return;
      event.preventDefault();
      show((shown + step + points.length) % points.length);
    });
  }

  document.querySelectorAll("table").forEach((table) => {
    if (!table.tHead || table.tBodies.length !== 1) return;
    sortable(table);
    filterable(table);
  });
  document.querySelectorAll("figure[data-points]").forEach(hoverable);
});
