"use strict";
// Sorts and filters tables, takes arms away, and tells the numbers under the pointer. Without it all can be read.

const make = (name, given, ...inside) => {
  const one = Object.assign(document.createElement(name), given);
  one.append(...inside);
  return one;
};

// Numbers by their size, names by the numbers in them, and what is empty last.
const names = new Intl.Collator("en", {numeric: true});
const valueOf = cell => {
  const said = cell.dataset.value ?? cell.textContent.trim();
  const number = parseFloat(said.replace(/^[[(]/, ""));
  return Number.isNaN(number) ? said : number * (said.endsWith("GiB") ? 1024 : 1);
};
const compare = (one, other) => typeof one === "number" && typeof other === "number" ?
  one - other : names.compare(one, other);

const sortable = table => {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", {type: "button", className: "sort"}, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = {none: "ascending", ascending: "descending", descending: "none"}[head.ariaSort ?? "none"];
      heads.forEach(other => other.removeAttribute("aria-sort"));
      if (next === "none") return body.append(...rows);
      head.setAttribute("aria-sort", next);
      const keyed = rows.map(row => ({row, key: row.cells[column] ? valueOf(row.cells[column]) : ""}));
      const sign = next === "ascending" ? 1 : -1;
      keyed.sort((one, other) => (one.key === "") - (other.key === "") || sign * compare(one.key, other.key));
      body.append(...keyed.map(one => one.row));
    });
  });
};

const LONG = 8;
const filtered = (block, table) => {
  const rows = [...table.tBodies[0].rows];
  const field = make("input", {type: "search", placeholder: "Filter rows", ariaLabel: "Filter rows"});
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    rows.forEach(row => row.classList.toggle("unmatched", !words.every(word => row.textContent.toLowerCase().includes(word))));
  });
  block.querySelector(".tools").prepend(field);
};

for (const block of document.querySelectorAll(".table")) {
  const table = block.querySelector("table"), rows = table.tBodies[0]?.rows.length ?? 0;
  if (table.tHead && rows > 1) sortable(table);
  if (rows > LONG) filtered(block, table);
}

const of = new Map();
for (const one of document.querySelectorAll("[data-arm]")) {
  of.set(one.dataset.arm, [...of.get(one.dataset.arm) ?? [], one]);
}
const place = document.querySelector("#arms h2");
if (of.size > 2 && place) {
  const boxes = [...of].map(([name, all]) => {
    const box = make("input", {type: "checkbox", checked: true});
    box.addEventListener("change", () => all.forEach(one => one.classList.toggle("away", !box.checked)));
    return make("label", {}, box, name);
  });
  place.after(make("fieldset", {className: "choose"}, make("legend", {}, "Arms shown on this page"), ...boxes));
}

const tip = make("div", {className: "tip", hidden: true});
document.body.append(tip);
const shown = value => value === null || value === undefined ? "unknown" : String(value);
const telling = {
  map(found, x, y) {
    const row = Math.floor(y * found.rows.length), column = Math.floor(x * found.columns.length);
    const value = found.values[row]?.[column];
    if (value === undefined) return null;
    return `${found.down} ${found.rows[row]}, ${found.across} ${found.columns[column]}: ${shown(value)}`;
  },
  curves(found, x) {
    let best = 0;
    found.places.forEach((at, place) => { if (Math.abs(at - x) < Math.abs(found.places[best] - x)) best = place; });
    const lines = Object.entries(found.lines).map(([name, values]) => `${name} ${shown(values[best])}`);
    return [`${found.across} ${found.names[best]}`, ...lines].join("\n");
  },
};
for (const [kind, tell] of Object.entries(telling)) {
  for (const drawing of document.querySelectorAll(`svg[data-${kind}]`)) {
    const found = JSON.parse(drawing.dataset[kind]);
    drawing.addEventListener("pointermove", event => {
      const box = drawing.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
      const said = x >= 0 && x < 1 && y >= 0 && y < 1 ? tell(found, x, y) : null;
      tip.hidden = said === null;
      if (said === null) return;
      tip.textContent = said;
      const right = Math.max(0, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4));
      tip.style.left = `${right}px`;
      tip.style.top = `${event.clientY > tip.offsetHeight + 20 ? event.clientY - tip.offsetHeight - 12 : event.clientY + 18}px`;
    });
    drawing.addEventListener("pointerleave", () => { tip.hidden = true; });
  }
}
