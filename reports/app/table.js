// The table of runs: any setting or metric as a column, filters, groups with mean and deviation, ticks that pick runs.
const FIRST_COLUMNS = ["about state", "about stage", "about method", "about label_fraction", "about data", "about seed",
  "about subset", "metric test/miou", "about gain", "metric val/miou", "about seconds"];
const OPERATORS = {
  "is": (value, other) => String(value) === other || (value === null && other === ""),
  "is not": (value, other) => String(value ?? "") !== other,
  "contains": (value, other) => String(value ?? "").toLowerCase().includes(other.toLowerCase()),
  "≥": (value, other) => typeof value === "number" && value >= Number(other),
  "≤": (value, other) => typeof value === "number" && value <= Number(other),
};
let dataTable = null;
let tableBefore = "";

const varies = column => column.values ? new Set(column.values).size > 1 : column.distinct.length > 1 || Boolean(column.at);

/** The columns that are shown: those of the address, or the usual ones and a few settings that differ. */
function chosenColumns() {
  const chosen = state.all("column").filter(name => columns.has(name));
  if (chosen.length) return chosen;
  const usual = FIRST_COLUMNS.filter(name => columns.has(name) && (varies(columns.get(name)) || name === "about state"));
  const swept = [...columns].filter(([, column]) => column.kind === "setting" && column.distinct.length > 1 && !column.name.endsWith(".seed")
    && column.at.every(at => at >= 0)).map(([name]) => name);
  return [...usual, ...swept.slice(0, 3)];
}

/** Filters of the address, each "column<TAB>operator<TAB>value". */
const filters = () => state.all("where").map(text => text.split("\t")).filter(([name, operator]) => columns.has(name) && operator in OPERATORS);

/** A score is filtered in per cent, as it is shown. */
function filtered(place, [name, operator, other]) {
  const column = columns.get(name);
  const value = valueOf(column, place);
  const scaled = typeof value === "number" && ((column.kind === "metric" && isShare(column.name)) || column.name === "label_fraction");
  return OPERATORS[operator](scaled ? Number((100 * value).toPrecision(5)) : value, other);
}

const matching = () => data.runs.map((_, place) => place).filter(place => filters().every(filter => filtered(place, filter)));

function mean(values) {
  const sum = values.reduce((total, value) => total + value, 0) / values.length;
  const squares = values.reduce((total, value) => total + (value - sum) ** 2, 0);
  return [sum, values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : null];
}

/** One row for each run, or for each group of runs with the same values of the columns it is grouped by. */
function tableRows(places, shownColumns, by) {
  if (!by.length) {
    return places.map(place => ({places: [place], cells: shownColumns.map(name => {
      const value = valueOf(columns.get(name), place);
      return {sort: value, text: shown(columns.get(name), value)};
    })}));
  }
  const groups = new Map();
  for (const place of places) {
    const key = JSON.stringify(by.map(name => valueOf(columns.get(name), place)));
    groups.set(key, [...(groups.get(key) ?? []), place]);
  }
  return [...groups.values()].map(members => ({places: members, cells: shownColumns.map(name => {
    const column = columns.get(name);
    const values = members.map(place => valueOf(column, place)).filter(value => value !== null);
    const distinct = [...new Set(values)];
    if (distinct.length < 2 && (values.length < 2 || column.kind !== "metric") || by.includes(name)) return {sort: distinct[0] ?? null, text: shown(column, distinct[0] ?? null)};
    if (!column.values || values.some(value => typeof value !== "number")) return {sort: null, text: distinct.length < 4 ? distinct.join(", ") : `${distinct.length} values`};
    const [middle, deviation] = mean(values);
    const spread = deviation === null ? "" : ` ± ${shown(column, deviation).replace("+", "")}`;
    const fewer = values.length < members.length ? ` (n = ${values.length})` : "";
    return {sort: middle, text: shown(column, middle) + spread + fewer};
  })}));
}

const titleOf = name => {
  const column = columns.get(name);
  return column.kind === "metric" && isShare(column.name) ? `${column.name} (%)` : column.kind === "about" ? column.name.replaceAll("_", " ") : column.name;
};

function showRuns() {
  const root = find("#runs-table"), shownColumns = chosenColumns(), by = state.all("by").filter(name => columns.has(name));
  const places = matching(), chosen = new Set(picked());
  const rows = tableRows(places, [...by.filter(name => !shownColumns.includes(name)), ...shownColumns], by);
  const titles = [...by.filter(name => !shownColumns.includes(name)), ...shownColumns];
  // Sorting, search and page stay when new data come, and while the columns are the same.
  const same = dataTable && tableBefore === titles.join("\t") + by.join("\t");
  const before = same ? {order: dataTable.order(), search: dataTable.search(), page: dataTable.page()} : null;
  tableBefore = titles.join("\t") + by.join("\t");
  dataTable?.destroy();
  dataTable = null;
  const table = element("table", {class: "display", id: "all-runs"});
  root.replaceChildren(tableTools(shownColumns, by), filterTools(places.length), element("div", {class: "wide", role: "region", "aria-label": "Table of runs", tabindex: 0}, table));
  const numeric = titles.map(name => columns.get(name).values || columns.get(name).numeric);
  dataTable = new DataTable(table, {
    data: rows, autoWidth: false, pageLength: 50, lengthMenu: [25, 50, 100, 500], deferRender: true,
    order: before?.order ?? sortOrder(titles, by), search: {search: before?.search ?? ""},
    displayStart: 50 * (before?.page ?? 0), language: {search: "Search", emptyTable: "No run fits the filters.", zeroRecords: "No run fits."},
    layout: {topStart: null, topEnd: "search", bottomStart: rows.length > 25 ? "pageLength" : null, bottomEnd: rows.length > 50 ? "paging" : null, bottom: "info"},
    createdRow: (row, values) => row.classList.toggle("chosen", values.places.every(place => chosen.has(place))),
    columns: [
      {title: by.length ? "n" : "run", data: (row, _, type) => type === "sort" ? 0 : null, orderable: false,
        render: (_, type, row) => type === "display" ? tick(row, chosen) : row.places.map(place => `${data.runs[place].id} ${data.runs[place].name} ${data.runs[place].error ?? ""}`).join(" ")},
      ...titles.map((name, i) => ({
        title: markup(titleOf(name)), className: numeric[i] ? "number" : "",
        data: row => row.cells[i].sort, orderSequence: numeric[i] ? ["desc", "asc", ""] : ["asc", "desc", ""],
        render: (value, type, row) => type === "display" ? cellMarkup(name, row.cells[i]) : type === "sort" || type === "type"
          ? (numeric[i] ? (typeof value === "number" ? value : -Infinity) : String(value ?? "")) : row.cells[i].text,
      })),
    ],
  });
  table.addEventListener("change", event => {
    if (!event.target.matches("input[data-row]")) return;
    const members = event.target.dataset.row.split(" ").map(Number);
    pick(members, event.target.checked);
    event.target.closest("tr").classList.toggle("chosen", event.target.checked);
  });
  table.addEventListener("click", event => {
    const link = event.target.closest("a[data-run]");
    if (link) link.href = state.address({view: "run", run: data.runs[Number(link.dataset.run)].key});
  });
}

function sortOrder(titles, by) {
  const best = titles.indexOf("metric test/miou");
  return best >= 0 && !by.length && state.one("sorted") !== "no" ? [[best + 1, "desc"]] : [];
}

function tick(row, chosen) {
  const all = row.places.every(place => chosen.has(place));
  const label = row.places.length === 1 ? `Pick ${data.runs[row.places[0]].id}` : `Pick ${row.places.length} runs`;
  const box = `<input type="checkbox" data-row="${row.places.join(" ")}" aria-label="${markup(label)}"${all ? " checked" : ""}>`;
  if (state.all("by").length) return `${box} ${row.places.length}`;
  return `${box} <a class="id" data-run="${row.places[0]}" href="#">${markup(data.runs[row.places[0]].id)}</a>`;
}

function cellMarkup(name, cell) {
  const text = markup(cell.text.length > 60 ? `${cell.text.slice(0, 60)}…` : cell.text);
  return name === "about state" ? `<span class="state ${/^[a-z]+$/.test(cell.text) ? cell.text : "other"}">${text}</span>` : text;
}

function pick(places, on) {
  const keys = new Set(state.all("pick"));
  for (const place of places) keys[on ? "add" : "delete"](data.runs[place].key);
  state.set({pick: [...keys]}, true);
  showPicked();
}

function showPicked() {
  const count = picked().length;
  find("#picked").textContent = count ? ` ${count}` : "";
  const bar = find("#pick-bar");
  bar.hidden = !count || state.one("view") !== "runs";
  bar.replaceChildren(element("span", {}, `${count} ${count === 1 ? "run" : "runs"} picked`),
    element("a", {class: "button", href: state.address({view: "compare"})}, "Compare"),
    element("button", {type: "button", click: () => { state.set({pick: null}, true); showPicked(); showRuns(); }}, "Clear"));
}

/** Choice of columns and groups. */
function tableTools(shownColumns, by) {
  const groupable = [...columns].filter(([, column]) => !column.values && varies(column) && column.name !== "git_sha").map(([name]) => name);
  groupable.unshift(...["about label_fraction"].filter(name => columns.has(name)));
  return element("div", {class: "controls"},
    columnChoice(shownColumns),
    element("details", {class: "menu"}, element("summary", {}, by.length ? `Grouped by ${by.map(name => columns.get(name).name).join(", ")}` : "Group by"),
      checks(groupable, by, chosen => state.set({by: chosen}), "Columns to group by")),
    by.length ? null : element("button", {type: "button", click: usualGroups}, "Over seeds and subsets"),
    by.length ? element("button", {type: "button", click: () => state.set({by: null})}, "Ungroup") : null,
    element("button", {type: "button", click: saveTable}, "CSV"));
}

/** Group by everything that differs, except what only repeats: seeds, subsets and what follows from them. */
function usualGroups() {
  const repeats = /(^|\.)(seed|subset)$|^(git_sha|state|device|sweep)$/;
  const names = [...columns].filter(([, column]) => !repeats.test(column.name) && varies(column)
    && (column.kind === "setting" || ["stage", "method", "data", "scale", "recipe", "label_fraction"].includes(column.name))).map(([name]) => name);
  state.set({by: names.slice(0, 12)});
}

function columnChoice(shownColumns) {
  const names = [...columns.keys()];
  return element("details", {class: "menu"}, element("summary", {}, `Columns (${shownColumns.length} of ${names.length})`),
    checks(names, shownColumns, chosen => state.set({column: chosen}), "Columns of the table"));
}

/** A list of names to tick, with a field that narrows it. */
function checks(names, chosen, changed, label) {
  const selected = new Set(chosen);
  const boxes = names.map(name => {
    const column = columns.get(name);
    const kind = column.kind === "about" ? "" : column.kind;
    const box = element("input", {type: "checkbox", checked: selected.has(name), change: event => {
      selected[event.target.checked ? "add" : "delete"](name);
      keepOpen(label);
      changed([...selected]);
    }});
    return element("label", {class: "check", "data-words": `${name.toLowerCase()} ${varies(column) ? "" : "same"}`}, box,
      element("span", {}, column.name), element("span", {class: "muted"}, kind + (varies(column) ? "" : " · same for all")));
  });
  const list = element("div", {class: "checks"}, boxes);
  const field = element("input", {type: "search", placeholder: "find, as in: lr", "aria-label": `Find in ${label.toLowerCase()}`, input: event => {
    for (const box of boxes) box.hidden = !box.dataset.words.includes(event.target.value.toLowerCase());
  }});
  return element("div", {class: "menu-body", role: "group", "aria-label": label}, field, list);
}

/** A menu stays open while its ticks rebuild the table. */
function keepOpen(label) {
  addEventListener("rebuilt", () => {
    const body = find(`.menu-body[aria-label="${label}"]`);
    if (body) body.closest("details").open = true;
  }, {once: true});
}

/** Filters by value, each one shown with a button that removes it. */
function filterTools(count) {
  const first = columns.has("about method") ? "about method" : [...columns.keys()][0];
  const values = element("datalist", {id: "filter-values"});
  const suggest = name => {
    const column = columns.get(name);
    const distinct = column.values ? [] : column.distinct.slice(0, 100);
    values.replaceChildren(...distinct.map(value => element("option", {value})));
  };
  suggest(first);
  const form = element("form", {class: "filters", submit: event => {
    event.preventDefault();
    const [name, operator, value] = [...new FormData(form).values()];
    state.set({where: [...state.all("where"), `${name}\t${operator}\t${value.trim()}`]});
  }},
  choice("Filter", [...columns].map(([name, column]) => [name, column.name]), first, suggest, {name: "column"}),
  element("select", {name: "operator", "aria-label": "Condition"}, Object.keys(OPERATORS).map(operator => element("option", {}, operator))),
  element("input", {name: "value", list: "filter-values", "aria-label": "Value", autocomplete: "off"}), values,
  element("button", {type: "submit"}, "Add"));
  const active = state.all("where").map((text, number) => {
    const [name, operator, value] = text.split("\t");
    return element("button", {type: "button", class: "chip", "aria-label": `Remove the filter ${name} ${operator} ${value}`,
      click: () => state.set({where: state.all("where").filter((_, other) => other !== number)})},
    `${(name ?? "").replace(/^\w+ /, "")} ${operator} ${value || "(empty)"} ×`);
  });
  return element("div", {class: "controls"}, form, active,
    active.length ? element("span", {class: "muted", role: "status"}, `${count} of ${data.runs.length} runs`) : null);
}

function saveTable() {
  const names = chosenColumns(), by = state.all("by").filter(name => columns.has(name));
  const all = [...by.filter(name => !names.includes(name)), ...names];
  const rows = tableRows(matching(), all, by);
  download("runs.csv", csv([[by.length ? "n" : "run", ...all.map(name => columns.get(name).name)],
    ...rows.map(row => [by.length ? row.places.length : data.runs[row.places[0]].id,
      ...row.cells.map(cell => by.length ? cell.text : cell.sort)])]), "text/csv");
}
