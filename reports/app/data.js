// The data of the page, its state in the address, and elements made of text alone: no text of a run becomes markup.
const find = (selector, root = document) => root.querySelector(selector);

/** An element; strings among its children are text. Attributes with a function are listeners, false ones are left out. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter(child => child !== null && child !== undefined && child !== false));
  return made;
}

const markup = text => String(text).replace(/[&<>"']/g, letter => `&#${letter.charCodeAt(0)};`);

let data = {};
let columns = new Map();
let placeOf = new Map();

function load(json) {
  data = JSON.parse(json);
  columns = new Map(data.columns.map(column => [`${column.kind} ${column.name}`, column]));
  placeOf = new Map(data.runs.map((run, place) => [run.key, place]));
  for (const run of data.runs) run.progress ??= {};
}

/** The value of a column for a run: a number, a text, or null. */
function valueOf(column, place) {
  if (column.values) return column.values[place];
  const at = column.at ? column.at[place] : 0;
  if (at < 0) return null;
  const text = column.distinct[at];
  return column.numeric && text !== "null" ? Number(text) : text;
}

const about = (name, place) => columns.has(`about ${name}`) ? valueOf(columns.get(`about ${name}`), place) : null;
const metric = (name, place) => columns.has(`metric ${name}`) ? valueOf(columns.get(`metric ${name}`), place) : null;

const SHARES = /^(test|val|train)\/(cleaned\/)?(miou|mean_f1|pixel_accuracy|mean_accuracy|accuracy|dice|iou|f1|miou_small|f1_small|ssim|false_area|box_iou|confidence|confident)($|\/|_small)/;
const isShare = name => SHARES.test(name);

/** A number as shown: scores in per cent, the gain with its sign. */
function shown(column, value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number") return value;
  if (column.kind === "metric") return isShare(column.name) ? (100 * value).toFixed(2) : digits(value);
  if (column.name === "gain") return signed(value);
  if (column.name === "label_fraction") return `${digits(100 * value)} %`;
  if (column.name === "seconds") return clock(value);
  return column.kind === "setting" ? String(value) : digits(value);
}

const digits = value => Number.isInteger(value) ? grouped(value) : String(Number(value.toPrecision(4)));
const grouped = value => Math.abs(value) < 10000 ? String(value) : value.toLocaleString("en").replaceAll(",", " ");
const signed = value => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
const percent = value => value === null || value === undefined ? "—" : (100 * value).toFixed(2);

function clock(seconds) {
  if (seconds === null || seconds === undefined) return "—";
  if (seconds < 90) return `${seconds < 10 ? Number(seconds.toFixed(1)) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")} h`;
}

/** What the address says, as #view=compare&pick=finetune-1&pick=finetune-2. */
const state = {
  read: () => new URLSearchParams(location.hash.slice(1)),
  one: (name, other = "") => state.read().get(name) ?? other,
  all: name => state.read().getAll(name),
  /** The address with other values; null removes one, a list gives several. */
  address(changes) {
    const words = state.read();
    for (const [name, value] of Object.entries(changes)) {
      words.delete(name);
      for (const one of [value].flat()) if (one !== null && one !== "") words.append(name, one);
    }
    return `#${words}`;
  },
  set(changes, quietly = false) {
    const address = state.address(changes);
    if (quietly) history.replaceState(null, "", address);
    else location.hash = address;
  },
};

const picked = () => state.all("pick").filter(key => placeOf.has(key)).map(key => placeOf.get(key));

/** Names of runs in one figure: short where they differ, with the id where they do not. */
function namesOf(places) {
  const parts = places.map(place => data.runs[place].name.split(" · "));
  const differs = part => parts.length === 1 || parts.some(own => !own.includes(part));
  const names = parts.map(([first, ...others]) => [first, ...others.filter(differs)].join(" · "));
  return places.map((place, i) => names.filter(name => name === names[i]).length > 1
    ? `${names[i]} · ${data.runs[place].id.slice(0, 6)}` : names[i]);
}

const runLink = (place, text) =>
  element("a", {href: state.address({view: "run", run: data.runs[place].key}), class: "id"}, text ?? data.runs[place].id);

const stateMark = run => element("span", {class: `state ${/^(done|failed|unreadable|running)$/.test(run.state) ? run.state : "other"}`}, run.state);

function image(place, alternative, attributes = {}) {
  const [width, height, content] = data.images[place];
  const small = width < 112 ? "small" : false;
  return element("img", {src: `data:image/webp;base64,${content}`, width, height, alt: alternative, class: small, ...attributes});
}

function choice(label, options, chosen, changed, attributes = {}) {
  const select = element("select", {change: event => changed(event.target.value), ...attributes},
    options.map(option => {
      const [value, text] = Array.isArray(option) ? option : [option, option];
      return element("option", {value, selected: value === chosen}, text);
    }));
  return element("label", {class: "choice"}, element("span", {}, label), select);
}

/** Rows as comma-separated values; what a spreadsheet would run as a formula begins with an apostrophe. */
function csv(rows) {
  const cell = value => {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return rows.map(row => row.map(cell).join(",")).join("\n") + "\n";
}

function download(name, content, kind) {
  const address = content.startsWith("data:") ? content : URL.createObjectURL(new Blob([content], {type: kind}));
  element("a", {href: address, download: name}).click();
  if (!content.startsWith("data:")) setTimeout(() => URL.revokeObjectURL(address), 1000);
}
