"use strict";
// Sorting, filtering and the panel of a model. Text from data is only ever set as text (append, setAttribute), links are
// only ever copied from the table, and nothing is asked of any server.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  // viridis by Nathaniel Smith, Stefan van der Walt and Eric Firing (CC0), as in matplotlib, at 0/16 to 16/16:
  // perceptually uniform, and in order of lightness for readers who do not see its hues.
  const VIRIDIS = [
    "440154", "48186a", "472d7b", "424086", "3b528b", "33638d", "2c728e", "26828e", "21918c", "1fa088", "28ae80",
    "3fbc73", "5ec962", "84d44b", "addc30", "d8e219", "fde725",
  ].map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const GRIDS = [
    ["emergence", "emergence"],
    ["ceiling", "ceiling"],
    ["untrained_twin", "untrained twin"],
    ["random_words", "random words"],
  ];
  const byId = (id) => document.getElementById(id);

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function draw(tag, attributes = {}, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const two = (value) => (value === null ? "none" : value.toFixed(2).replace(/^-(0\.00)$/, "$1"));

  // ---- sorting

  function sort(table, heading, column) {
    const isNumber = heading.dataset.sort !== "text";
    const [first, other] = heading.dataset.sort === "number" ? ["descending", "ascending"] : ["ascending", "descending"];
    const order = heading.getAttribute("aria-sort") === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const compare = isNumber ? (a, b) => a - b : new Intl.Collator("en", { numeric: true }).compare;
    const keyed = [...table.tBodies[0].rows].map((row) => {
      const value = row.cells[column].dataset.value;
      return { row, value: value === undefined || !isNumber ? value : Number(value) };
    });
    keyed.sort((a, b) => {
      if (a.value === undefined || b.value === undefined) return (a.value === undefined) - (b.value === undefined);
      return sign * compare(a.value, b.value);
    });
    table.tBodies[0].append(...keyed.map((item) => item.row));
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
  }

  for (const table of document.querySelectorAll(".board table")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = make("button", { type: "button" });
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, heading, column));
      heading.append(button);
    });
  }

  // ---- filtering

  const models = [...document.querySelectorAll("tr.model")];
  if (!models.length) return;
  const form = document.querySelector("form.filter");
  const wanted = byId("wanted");

  function filter() {
    const text = wanted.value.trim().toLowerCase();
    const measuredOnly = byId("measured-only").checked;
    let nShown = 0;
    for (const row of models) {
      const names = `${row.querySelector("th").textContent}\n${row.querySelector(".family").textContent}`.toLowerCase();
      row.hidden = !names.includes(text) || (measuredOnly && row.dataset.kind !== "measured");
      nShown += !row.hidden;
    }
    byId("n-shown").value = `${nShown} of ${models.length} rows`;
  }

  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(); // some browsers keep what was typed before a reload

  // ---- heat maps

  function colour(share) {
    const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
    const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
    return VIRIDIS[low].map((value, index) => Math.round(value + (at - low) * (VIRIDIS[low + 1][index] - value)));
  }

  // Relative luminance and contrast as WCAG 2.2 defines them: black or white, whichever reads better on the colour.
  function inkOn(rgb) {
    const [red, green, blue] = rgb.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
  }

  // The grids of one task in bits, null where the estimator refused; see proxies/page_panel.py for the packing.
  function unpacked(map) {
    const nBlocks = map.grids.emergence.length / map.width / Math.max(map.n_positions, 1);
    const cell = (packed, block, position) => {
      const at = (block * map.n_positions + position) * map.width;
      const digits = packed.slice(at, at + map.width);
      return digits.startsWith("-") ? null : (parseInt(digits, 36) + map.low) / 100;
    };
    const grids = {};
    for (const [key] of GRIDS) {
      grids[key] = Array.from({ length: nBlocks }, (_, block) =>
        Array.from({ length: map.n_positions }, (_, position) => cell(map.grids[key], block, position)));
    }
    return grids;
  }

  // One scale for all four grids of a task, with 0 on it.
  function scaleOf(grids) {
    const values = Object.values(grids).flat(2).filter((value) => value !== null);
    const low = Math.min(0, ...values);
    const high = Math.max(0, ...values);
    return { low, high: high > low ? high : low + 1 };
  }

  function legend({ low, high }) {
    const bar = draw("svg", { viewBox: "0 0 240 12", "aria-hidden": "true", class: "ramp", "shape-rendering": "crispEdges", preserveAspectRatio: "none" });
    for (let step = 0; step < 48; step += 1) {
      bar.append(draw("rect", { x: step * 5, width: 5.5, height: 12, fill: `rgb(${colour(step / 47)})` }));
    }
    return make("div", { class: "ramp-line" }, make("span", {}, `${two(low)} bits`), bar, make("span", {}, `${two(high)} bits`));
  }

  const say = (value) => (value === null ? "refused" : two(value));

  function heatTable(name, key, map, grids, scale, showNumbers) {
    const closes = (position) => map.closing.indexOf(position) + 1;
    const head = make("tr", {}, make("td"));
    for (let position = 0; position < map.n_positions; position += 1) {
      const cell = make("th", { scope: "col" }, `${position}`);
      const shot = closes(position);
      if (shot) {
        cell.className = "closes";
        cell.append(make("span", { "aria-hidden": "true" }, `◆${shot}`),
          make("span", { class: "unseen" }, `, closes demonstration ${shot}`));
      }
      head.append(cell);
    }
    const body = make("tbody");
    grids[key].forEach((line, block) => {
      const row = make("tr", {}, make("th", { scope: "row" }, `${block}`));
      line.forEach((value, position) => {
        const cell = make("td", { tabindex: "-1", "data-block": block, "data-position": position });
        cell.append(make("span", showNumbers && value !== null ? {} : { class: "unseen" }, say(value)));
        if (value === null) {
          cell.classList.add("refused");
        } else {
          const rgb = colour((value - scale.low) / (scale.high - scale.low));
          cell.style.backgroundColor = `rgb(${rgb})`;
          cell.style.color = inkOn(rgb);
        }
        if (closes(position)) cell.classList.add("closes");
        row.append(cell);
      });
      body.append(row);
    });
    const table = make("table", { role: "grid", class: showNumbers ? "heat numbers" : "heat", "aria-label":
      `${name} in bits; rows are blocks, columns positions` }, make("thead", {}, head), body);
    table.style.minWidth = `${2 + map.n_positions * (showNumbers ? 2.6 : 1.1)}rem`; // past that it scrolls
    const first = body.querySelector("td");
    if (first) first.tabIndex = 0; // one stop for the Tab key, arrows from there
    return make("figure", {}, make("figcaption", {}, name),
      make("div", { class: "scroll", role: "region", "aria-label": `${name}, scrolls sideways`, tabindex: "0" }, table));
  }

  function readout(map, grids, cell) {
    const [block, position] = [Number(cell.dataset.block), Number(cell.dataset.position)];
    const shot = map.closing.indexOf(position) + 1;
    const where = `block ${block}, position ${position}${shot ? ` (closes demonstration ${shot})` : ""}`;
    const values = GRIDS.map(([key, name]) => `${name} ${say(grids[key][block][position])}`).join(", ");
    byId("map-readout").textContent = `${where}: ${values} bits`;
  }

  function showMap(maps) {
    const map = maps[byId("map-task").selectedIndex];
    const view = byId("map-view").value;
    const grids = unpacked(map);
    const scale = scaleOf(grids);
    const shown = GRIDS.filter(([key]) => view === "all" || view === key);
    const place = byId("map");
    place.className = view === "all" ? "maps several" : "maps";
    place.replaceChildren(...shown.map(([key, name]) =>
      heatTable(name, key, map, grids, scale, byId("map-numbers").checked)));
    byId("map-legend").replaceChildren(legend(scale));
    byId("map-readout").textContent = "Point at a cell, or move to one with Tab and the arrow keys, to read its four values.";
    const nRefused = shown.reduce((sum, [key]) => sum + grids[key].flat().filter((value) => value === null).length, 0);
    byId("map-remark").textContent = "Rows are blocks, the first on top; columns are positions; ◆k closes demonstration k. "
      + "All maps of a task share one colour scale. "
      + (nRefused ? `Hatched: ${nRefused} ${nRefused === 1 ? "cell" : "cells"} that the estimator refused.` : "No cell was refused.");
    read = (cell) => readout(map, grids, cell);
  }

  let read = null;
  for (const kind of ["pointerover", "focusin"]) {
    byId("map").addEventListener(kind, (event) => {
      const cell = event.target.closest("td[data-block]");
      if (cell) read(cell);
    });
  }

  byId("map").addEventListener("keydown", (event) => {
    const cell = event.target.closest("td[data-block]");
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!cell || !(step || event.key === "Home" || event.key === "End")) return;
    const rows = cell.closest("tbody").rows;
    const cells = cell.parentElement.querySelectorAll("td");
    const [block, position] = [Number(cell.dataset.block), Number(cell.dataset.position)];
    let next;
    if (step) next = rows[block + step[0]]?.querySelectorAll("td")[position + step[1]];
    else next = event.key === "Home" ? cells[0] : cells[cells.length - 1];
    event.preventDefault();
    if (!next) return;
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  // ---- line charts

  function ticks(low, high, nMost) {
    const power = 10 ** Math.floor(Math.log10((high - low) / nMost));
    const step = [1, 2, 5, 10, 20].map((factor) => power * factor).find((size) => (high - low) / size <= nMost);
    const marks = [];
    for (let index = Math.ceil(low / step - 1e-9); index <= Math.floor(high / step + 1e-9); index += 1) marks.push(index * step);
    return { marks, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }

  // Shape and line of each series: told apart without colour.
  const STYLES = [
    { shape: "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0-4.5 0Z", dash: "none" },
    { shape: null, dash: "7 4" },
    { shape: "M-4-4H4V4H-4Z", dash: "2 3" },
    { shape: "M0-5.4 5 3.6H-5Z", dash: "9 3 2 3" },
  ];

  // series: {name, style, points: [{x, y, low, high}]}; points without a value are left out.
  function chart({ label, yLabel, series, floor, roof }) {
    const [width, height, left, right, top, bottom] = [360, 240, 46, 10, 10, 42];
    const points = series.flatMap((item) => item.points);
    const xs = [...new Set(points.map((point) => point.x))].sort((a, b) => a - b);
    const ys = points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]);
    const margin = 0.05 * (Math.max(...ys) - Math.min(...ys)) || 0.5;
    const low = floor ?? Math.min(0, ...ys) - (Math.min(...ys) < 0 ? margin : 0);
    const high = roof ?? Math.max(...ys) + margin;
    const pad = 0.06 * (xs[xs.length - 1] - xs[0]) || 1;
    const [start, end] = [xs[0] - pad, xs[xs.length - 1] + pad];
    const x = (value) => (left + ((value - start) / (end - start)) * (width - left - right)).toFixed(1);
    const y = (value) => (height - bottom - ((value - low) / (high - low)) * (height - top - bottom)).toFixed(1);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "plot", "aria-label": label });
    const { marks, decimals } = ticks(low, high, 7);
    for (const mark of marks) {
      svg.append(draw("path", { class: "grid", d: `M${left} ${y(mark)}H${width - right}` }),
        draw("text", { x: left - 6, y: y(mark), dy: 4, "text-anchor": "end" }, mark.toFixed(decimals)));
    }
    let last = -Infinity;
    for (const value of xs) { // shots may be close together: 0, 1, 2, 4, ..., 64
      if (Number(x(value)) - last < 18) continue;
      last = Number(x(value));
      svg.append(draw("text", { x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, `${value}`));
    }
    svg.append(draw("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, "demonstrations (shots)"),
      draw("text", { transform: `translate(12 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
    for (const item of series) {
      const { shape, dash } = STYLES[item.style];
      const line = item.points.map((point, index) => `${index ? "L" : "M"}${x(point.x)} ${y(point.y)}`).join("");
      const group = draw("g", { class: `s${item.style}` }, draw("path", { class: "line", d: line, "stroke-dasharray": dash }));
      for (const point of item.points) {
        if (point.low !== undefined) {
          group.append(draw("path", { class: "interval", d: `M${x(point.x)} ${y(point.low)}V${y(point.high)}` }));
        }
        if (shape) {
          group.append(draw("path", { d: shape, transform: `translate(${x(point.x)} ${y(point.y)})` },
            draw("title", {}, `${item.name}, ${point.x} shots: ${two(point.y)}`)));
        }
      }
      svg.append(group);
    }
    const names = series.map((item) => {
      const { shape, dash } = STYLES[item.style];
      const sample = draw("svg", { class: `s${item.style}`, viewBox: "-14 -7 28 14", width: 28, height: 14, "aria-hidden": "true" },
        draw("path", { class: "line", d: "M-14 0H14", "stroke-dasharray": dash }));
      if (shape) sample.append(draw("path", { d: shape }));
      return make("li", {}, sample, ` ${item.name}`);
    });
    return [svg, make("ul", { class: "legend" }, ...names)];
  }

  function valuesTable(caption, headings, rows) {
    return make("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
      make("table", {}, make("caption", {}, caption),
        make("thead", {}, make("tr", {}, ...headings.map((text) => make("th", { scope: "col" }, text)))),
        make("tbody", {}, ...rows.map(([first, ...others]) =>
          make("tr", {}, make("th", { scope: "row" }, first), ...others.map((text) => make("td", {}, text)))))));
  }

  const withWidth = (value, width) => {
    if (width === null) return `${two(value)}, no interval`;
    return `${two(value)} ± ${width < 0.005 ? "<0.01" : two(width)}`;
  };

  function showShots(shots) {
    if (!shots.length) {
      byId("shots").replaceChildren(make("p", {}, "Not measured for this row."));
      return;
    }
    const series = [["emergence", 1], ["ceiling", 3], ["untrained twin", 4], ["random words", 5]].map(([name, at], style) => ({
      name, style, points: shots.filter((shot) => shot[at] !== null).map((shot) => {
        const point = { x: shot[0], y: shot[at] };
        return style === 0 && shot[2] !== null ? { ...point, low: shot[1] - shot[2], high: shot[1] + shot[2] } : point;
      }),
    })).filter((item) => item.points.length);
    const label = "Emergence over shots with its ceiling and controls; the table below has the numbers";
    byId("shots").replaceChildren(...chart({ label, yLabel: "emergence, bits", series }),
      valuesTable("Emergence in bits, ± half its 95 % interval", ["shots", "emergence", "ceiling", "untrained twin", "random words"],
        shots.map(([n, value, width, ceiling, twin, words]) =>
          [`${n}`, withWidth(value, width), two(ceiling), two(twin), two(words)])));
  }

  function showAccuracy(curves) {
    const place = byId("accuracy");
    const curve = curves[byId("accuracy-task").selectedIndex];
    if (!curve || !curve.points.length) {
      place.replaceChildren(make("p", {}, "Not measured for this row."));
      return;
    }
    const series = [
      { name: "accuracy, Wilson's 95 % interval", style: 0, points: curve.points.map(([x, y, low, high]) => ({ x, y, low, high })) },
      { name: "chance", style: 1, points: curve.points.map((point) => ({ x: point[0], y: point[4] })) },
    ];
    const label = "Accuracy over shots with its interval and chance; the table below has the numbers";
    place.replaceChildren(...chart({ label, yLabel: "accuracy", series, floor: 0, roof: 1.02 }),
      valuesTable("Accuracy, Wilson's 95 % interval", ["shots", "accuracy", "interval", "chance", "questions"],
        curve.points.map(([n, value, low, high, chance, questions]) =>
          [`${n}`, two(value), `${two(low)} to ${two(high)}`, two(chance), `${questions}`])));
  }

  // ---- the panel

  const panel = byId("panel");
  let data = null;
  let opened = null;

  // What the row says, in one sentence: the number never without its interval, its ceiling and its controls.
  function summary(row) {
    const texts = new Map([...row.closest("table").tHead.rows[0].cells].map((heading, column) =>
      [heading.textContent, row.cells[column].textContent]));
    // the visible dash and the word for readers who do not see it stand for the same
    const say = (name) => texts.get(name).replace("–", "");
    const controls = ["ceiling", "over twin", "over random words"].map((name) => `; ${name} ${say(name)}`);
    return `Emergence, ${row.dataset.kind}, in bits: ${say("emergence (bits)")}${controls.join("")}.`;
  }

  // Copies of cells: what the table says in other words could differ from it.
  function showFacts(row) {
    const headings = row.closest("table").tHead.rows[0].cells;
    const facts = [];
    const add = (name, nodes) => {
      const value = make("dd");
      value.append(...[...nodes].map((node) => node.cloneNode(true)));
      facts.push(make("div", {}, make("dt", {}, name), value));
    };
    [...row.cells].forEach((cell, column) => {
      const sources = cell.querySelectorAll("details dt");
      if (sources.length) sources.forEach((term) => add(term.textContent, term.nextElementSibling.childNodes));
      else if (column !== 1) add(headings[column].textContent, cell.childNodes);
    });
    byId("facts").replaceChildren(...facts);
  }

  function fillSelect(select, names) {
    select.replaceChildren(...names.map((name) => make("option", {}, name)));
    select.closest("label").hidden = names.length < 2;
  }

  function open(row) {
    data = JSON.parse(byId(`${row.id}-data`).textContent);
    opened = row;
    byId("panel-title").textContent = row.querySelector("th").textContent;
    byId("panel-summary").textContent = summary(row);
    const hasMaps = data.maps.length > 0;
    byId("map-parts").hidden = !hasMaps;
    byId("map-missing").hidden = hasMaps;
    fillSelect(byId("map-task"), data.maps.map((map) => map.task));
    fillSelect(byId("accuracy-task"), data.curves.map((curve) => `${curve.task} (${curve.mode})`));
    if (hasMaps) showMap(data.maps);
    showShots(data.shots);
    showAccuracy(data.curves);
    showFacts(row);
    if (!panel.open) panel.showModal();
    panel.scrollTop = 0;
    byId("panel-title").focus();
  }

  for (const id of ["map-task", "map-view", "map-numbers"]) byId(id).addEventListener("change", () => showMap(data.maps));
  byId("accuracy-task").addEventListener("change", () => showAccuracy(data.curves));
  byId("panel-close").addEventListener("click", () => panel.close());
  panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); }); // its backdrop
  panel.addEventListener("close", () => {
    const row = opened;
    opened = data = null;
    if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    if (row) (row.hidden ? wanted : row.querySelector("a.open")).focus();
  });

  // The address says which panel is open, so that it can be passed on and the Back button closes it.
  function follow() {
    const row = byId(location.hash.slice(1));
    if (row && row.matches("tr.model")) open(row);
    else if (panel.open) panel.close();
  }

  // As the browser would, but without scrolling the table away under the panel.
  document.querySelector("main").addEventListener("click", (event) => {
    const link = event.target.closest("a.open");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    history.pushState(null, "", link.getAttribute("href"));
    follow();
  });
  window.addEventListener("hashchange", follow);
  follow();
})();
