"use strict";
// Light and dark, tables that sort, and charts. Text reaches the page through textContent alone.

function element(tag, values = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(values)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...inside);
  return made;
}

const data = (node) => JSON.parse(node.textContent);

function chooseTheme() {
  const themes = { "light dark": "Colours: as the system", light: "Colours: light", dark: "Colours: dark" };
  const button = element("button", { id: "theme", type: "button" });
  const show = (theme) => {
    document.documentElement.style.colorScheme = theme;
    button.value = theme;
    button.textContent = themes[theme];
  };
  button.addEventListener("click", () => {
    const names = Object.keys(themes);
    show(names[(names.indexOf(button.value) + 1) % names.length]);
  });
  show("light dark");
  document.body.prepend(button);
}

// Rows that belong to the one before them stay with it.
function groupsOf(body) {
  const groups = [];
  for (const row of body.rows) {
    if (groups.length && ["margin", "sd", "seen"].includes(row.className)) groups.at(-1).push(row); else groups.push([row]);
  }
  return groups;
}

function sortable(table) {
  const body = table.tBodies[0], asWritten = groupsOf(body), heads = [...table.tHead.rows[0].cells];
  const key = (group, at) => {
    const cell = group[0].cells[at];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
  };
  heads.forEach((head, at) => {
    const numbers = asWritten.some((group) => typeof key(group, at) === "number");
    const cycle = numbers ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
    const button = element("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const direction = cycle[(cycle.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
      const sign = direction === "ascending" ? 1 : -1;
      const lacks = (value) => numbers && typeof value !== "number";
      const order = (one, other) => {
        const a = key(one, at), b = key(other, at);
        if (lacks(a) || lacks(b)) return lacks(a) - lacks(b);
        return sign * (numbers ? a - b : a.localeCompare(b, undefined, { numeric: true }));
      };
      body.append(...(direction === "none" ? asWritten : asWritten.toSorted(order)).flat());
      for (const other of heads) other.setAttribute("aria-sort", other === head ? direction : "none");
    });
  });
}

function filtered(table) {
  const box = element("input", { type: "search", className: "filter", placeholder: "Rows with …", ariaLabel: "Show rows with this text" });
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/);
    for (const group of groupsOf(table.tBodies[0])) {
      const label = group[0].cells[0].textContent.toLowerCase();
      for (const row of group) row.hidden = !words.every((word) => label.includes(word));
    }
  });
  table.parentElement.before(box);
}

// Whatever has no colour of its own takes the page's, which follows light and dark by itself; a chart's own style goes first.
const LINES = { domainColor: "currentColor", tickColor: "currentColor", gridColor: "currentColor", gridOpacity: 0.15 };
const WORDS = { labelColor: "currentColor", titleColor: "currentColor" };
const THEME = {
  axis: { ...LINES, ...WORDS }, legend: WORDS, header: WORDS, text: { color: "currentColor" },
  title: { color: "currentColor", subtitleColor: "currentColor" }, view: { stroke: "currentColor", strokeOpacity: 0.2 },
};

const ERRORS = 1; // of Vega's levels of logging: warnings, as of a layer without data, are not the reader's

async function drawCharts() {
  const library = document.querySelector("script.library");
  if (!library) return;
  await new Promise((done) => window.addEventListener("load", () => setTimeout(done))); // the page is read before its charts
  document.head.append(element("script", { textContent: library.textContent }));
  for (const node of document.querySelectorAll("script.chart-data")) {
    const spec = data(node);
    await new Promise((done) => setTimeout(done));
    const config = { ...spec.config, background: "transparent" };
    for (const [name, values] of Object.entries(THEME)) config[name] = { ...values, ...config[name] };
    delete spec.background;
    spec.config = config;
    const actions = { export: true, source: false, compiled: false, editor: false };
    const options = { renderer: "svg", actions, logLevel: ERRORS, downloadFileName: node.dataset.name };
    await vegaEmbed(node.previousElementSibling, spec, options);
  }
  document.documentElement.dataset.charts = "drawn";
}

chooseTheme();
for (const table of document.querySelectorAll("table.figures")) {
  sortable(table);
  if (table.tBodies[0].rows.length > 20) filtered(table);
}
drawCharts();
