"use strict";
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const there = id => document.getElementById(id) !== null;

// What is large lies in the page as gzip in base64.
async function read(id) {
  const packed = new Blob([bytes(document.getElementById(id).textContent)]);
  return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).text();
}
async function load(id) {
  const url = URL.createObjectURL(new Blob([await read(id)], { type: "text/javascript" }));
  const module = await import(url);
  URL.revokeObjectURL(url);
  return module;
}

// Tables: DataTables makes them; its filters go from the foot to below the headers.
async function tables() {
  const { ITable } = await load("bundle");
  for (const [name, given] of Object.entries(JSON.parse(await read("tables")))) {
    const table = document.getElementById(`${name}-table`);
    new ITable(table, given);
    const filters = table.tFoot.rows[0];
    filters.className = "filters";
    for (const input of filters.querySelectorAll("input")) {
      input.setAttribute("aria-label", `filter ${input.placeholder}`);
      input.placeholder = "filter";
    }
    table.tHead.append(filters);
  }
}
tables();
const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = () => document.documentElement.classList.toggle("dark", dark.matches);
dark.addEventListener("change", theme);
theme();

// Enlarged figures: a dialog, which Escape closes.
const zoom = document.getElementById("zoom");
for (const button of document.querySelectorAll("figure button"))
  button.addEventListener("click", () => {
    zoom.replaceChildren(button.querySelector("img").cloneNode());
    zoom.showModal();
  });
zoom.addEventListener("click", () => zoom.close());

// Interactive figures.
async function interactive() {
  const { charts, neurons, maps, tests } = JSON.parse(await read("charts-data"));
  await load("vega");
  const count = neurons.neuron.length;
  const rows = Array.from({ length: count }, (_, i) => ({ i, ...Object.fromEntries(Object.entries(neurons).map(([k, v]) => [k, v[i]])) }));
  const stored = { rows: maps && bytes(maps.rows), columns: maps && bytes(maps.columns), tests: tests && bytes(tests.values) };
  const field = document.getElementById("neuron-number"), said = document.getElementById("neuron-said");
  const views = {};
  let picked = neurons.feve.reduce((best, x, i) => (x != null && (neurons.feve[best] == null || x > neurons.feve[best]) ? i : best), 0);

  function colours() {
    const ink = dark.matches ? "#e6eaee" : "#1c2733", line = dark.matches ? "#39424c" : "#d8dde3";
    const text = { labelColor: ink, titleColor: ink, titleFontWeight: "normal" };
    return { background: "transparent", view: { stroke: line }, axis: { ...text, gridColor: line, domainColor: ink, tickColor: ink, titleLimit: 0 }, legend: text };
  }

  // What the two small charts show of a neuron, by the names of their data.
  function shown(i) {
    const found = {};
    if (maps) {
      const [nr, nc] = maps.n, [top, left, bottom, right] = maps.box;
      const x = c => left + c * (right - left) / nc, y = r => top + r * (bottom - top) / nr;
      found.map = Array.from({ length: nr * nc }, (_, k) => {
        const r = Math.floor(k / nc), c = k % nc;
        const weight = Math.round(stored.rows[i * nr + r] * stored.columns[i * nc + c] / 650.25) / 100;
        return { x0: x(c), x1: x(c + 1), y0: y(r), y1: y(r + 1), weight };
      });
    }
    if (tests) {
      const n = tests.images.length, value = k => +(tests.low[i] + tests.spread[i] * stored.tests[2 * i * n + k] / 255).toPrecision(3);
      found.tests = tests.images.map((image, k) => ({ image, prediction: value(k), response: value(n + k) }));
      found.equal = [tests.low[i], tests.low[i] + tests.spread[i]].map(x => ({ prediction: x, response: x }));
    }
    return found;
  }

  function say(i) {
    const row = rows[i], number = x => (x == null ? "-" : x);
    field.value = row.neuron;
    said.textContent = `Neuron ${row.neuron}: FEVE ${number(row.feve)}, FEV ${number(row.fev)}${row.unit == null ? "" : `, unit ${row.unit}`}.`;
  }

  function pick(i) {
    picked = i;
    say(i);
    const { map, ...rest } = shown(i);
    if (views.map) views.map.data("map", map).runAsync();
    for (const [name, values] of Object.entries(rest)) views.tests.data(name, values);
    if (views.tests) views.tests.runAsync();
  }

  async function draw() {
    for (const view of Object.values(views)) view.finalize();
    const data = { neurons: rows, ...shown(picked) }, config = colours();
    const tooltip = { theme: dark.matches ? "dark" : "light" };
    for (const [name, spec] of Object.entries(charts)) {
      const ofNeurons = name === "fev" || name === "reference";
      const renderer = ofNeurons && count > 1000 ? "canvas" : "svg";
      const place = document.getElementById(`chart-${name}`);
      const { view } = await vegaEmbed(place, { ...spec, datasets: data }, { actions: false, config, renderer, tooltip });
      views[name] = view;
      if (ofNeurons) view.addEventListener("click", (_, item) => { if (item && item.datum && item.datum.i != null) pick(item.datum.i); });
    }
    say(picked);
  }
  field.addEventListener("change", () => {
    const i = neurons.neuron.indexOf(Number(field.value));
    if (i < 0) said.textContent = `There is no neuron ${field.value}.`;
    else pick(i);
  });
  dark.addEventListener("change", draw);
  await draw();
}
if (there("charts-data")) interactive();
