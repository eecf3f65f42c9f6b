// Views, and new data while runs are in progress.
const VIEWS = {overview: showOverview, runs: showRuns, compare: showCompare, run: showRun, tables: () => {}};

function showOverview() {
  const root = find("#efficiency");
  if (!data.studies.length) return;
  const number = Math.min(Number(state.one("study", "0")) || 0, data.studies.length - 1);
  const study = data.studies[number];
  const all = sameFaces(study).filter(([, places]) => places.length > 1);
  root.replaceChildren(
    data.studies.length > 1 ? element("div", {class: "controls"}, choice("Study", data.studies.map((one, i) => [String(i), one.title]), String(number), value => state.set({study: value})))
      : element("p", {class: "muted"}, study.title),
    element("div", {class: "pair"}, efficiency(study, number)),
    element("p", {class: "note muted"}, "Large dots are means over subsets and seeds, small dots single runs; bars are one standard deviation, of gains the 95 % confidence interval of the mean. Gains of the paper, where they are shown, are as printed, for other and far larger runs."),
    all.length ? element("p", {}, "The same faces under all methods: ", all.map(([text, places], i) => [i ? ", " : "", element("a", {href: state.address({view: "compare", pick: places.map(place => data.runs[place].key)})}, text)]), ".") : "");
  plotAll(root);
}

/** The view of the address; a link to a run's row, as those of the tables, leads to the run. */
function show(focus = false) {
  const anchor = decodeAnchor();
  if (anchor !== null && placeOf.has(anchor)) {
    history.replaceState(null, "", `#${new URLSearchParams({view: "run", run: anchor})}`);
  } else if (anchor !== null && Object.hasOwn(VIEWS, anchor)) {
    history.replaceState(null, "", `#view=${anchor}`);
  }
  const view = Object.hasOwn(VIEWS, state.one("view")) ? state.one("view") : "overview";
  for (const name of Object.keys(VIEWS)) find(`#${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    link.href = state.address({view: link.dataset.view});
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const link of document.querySelectorAll("a[data-pick]")) {
    link.href = state.address({view: "compare", pick: link.dataset.pick.split("\n")});
  }
  VIEWS[view]();
  showPicked();
  dispatchEvent(new Event("rebuilt"));
  if (focus) find(`#${view}`).focus({preventScroll: true});
  return view;
}

function decodeAnchor() {
  const text = location.hash.slice(1);
  if (!text || text.includes("=")) return null;
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

let shownView = "";
function changed() {
  const key = `${state.one("view", "overview")} ${state.one("run")}`;
  const moved = key !== shownView;
  const view = show(moved && shownView !== "");
  shownView = `${view} ${state.one("run")}`;
  if (moved) scrollTo(0, 0);
}

/** Ask the server that serves the page for a newer one, and take its data and its written parts. */
async function refresh() {
  const words = find("#live");
  try {
    const response = await fetch(location.pathname, {cache: "no-store"});
    if (!response.ok) throw new Error(response.statusText);
    const newer = new DOMParser().parseFromString(await response.text(), "text/html");
    const json = find("#data", newer).textContent;
    const busy = document.activeElement?.matches("main input:not([type=checkbox]):not([type=range]), main select");
    if (json !== find("#data").textContent && !busy) {
      find("#data").textContent = json;
      load(json);
      for (const id of ["written", "facts", "news", "tables-body"]) find(`#${id}`).replaceWith(document.adoptNode(find(`#${id}`, newer)));
      const y = scrollY, open = [...document.querySelectorAll("main details[open] > summary")].map(one => one.textContent);
      show();
      for (const summary of document.querySelectorAll("main details > summary")) if (open.includes(summary.textContent)) summary.parentElement.open = true;
      scrollTo(0, y);
    }
    const live = `Live: asks again every ${digits(data.every)} s.`;
    if (words.textContent !== live) words.textContent = live;
  } catch {
    words.textContent = "The server does not respond; what is shown is from the time above.";
  }
  if (data.every) setTimeout(refresh, 1000 * data.every);
}

load(find("#data").textContent);
document.documentElement.classList.add("scripted");
for (const box of document.querySelectorAll("[data-scripted]")) box.hidden = false;
addEventListener("hashchange", changed);
darkScreen.addEventListener("change", () => show());
changed();
if (data.every && location.protocol.startsWith("http")) setTimeout(refresh, 1000 * data.every);
document.documentElement.dataset.ready = String(Math.round(performance.now()));
