// Picked runs side by side: curves, settings that differ, classes, and the same faces.
const MOST_COMPARED = 24;
const PREFERRED = ["val/miou", "val/iou", "val/psnr", "val/loss", "train/loss"];

function curveNames(places) {
  const names = new Set(places.flatMap(place => (data.runs[place].curves ?? []).flatMap(group => Object.keys(group.y))));
  return [...names].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}
const rank = name => PREFERRED.includes(name) ? PREFERRED.indexOf(name) : name.split("/").length * 10;

function showCompare() {
  const root = find("#compare-body"), places = picked().slice(0, MOST_COMPARED);
  if (!places.length) {
    root.replaceChildren(element("p", {}, "Pick runs in the table of ", element("a", {href: state.address({view: "runs"})}, "runs"),
      " by their ticks, or take a suggestion:"), suggestions());
    return;
  }
  const names = namesOf(places);
  const chips = element("ul", {class: "chips", "aria-label": "Picked runs"}, places.map((place, i) => element("li", {},
    element("span", {class: "dot", style: `background:${colourOf(i)}`}), runLink(place, names[i]), stateMark(data.runs[place]),
    element("button", {type: "button", class: "plain", "aria-label": `Remove ${names[i]}`, click: () => {
      state.set({pick: state.all("pick").filter(key => key !== data.runs[place].key)});
    }}, "×"))));
  const much = picked().length > MOST_COMPARED ? element("p", {class: "note muted"}, `The first ${MOST_COMPARED} of ${picked().length} picked runs are compared.`) : null;
  root.replaceChildren(...[chips, much, curveSection(places, names), differences(places, names), classSection(places, names),
    faceSection(places, names), epochSection(places, names)].filter(Boolean));
  plotAll(root);
}

/** Comparisons that a reader is likely to want. */
function suggestions() {
  const list = [];
  data.studies.slice(0, 4).forEach(study => sameFaces(study).slice(0, 2).forEach(([share, places]) => {
    if (places.length > 1) list.push([`all methods at ${share}, ${study.title}`, places]);
  }));
  data.runs.forEach((run, place) => {
    if (run.baseline !== undefined && list.length < 6) list.push([`${run.name} against its baseline`, [run.baseline, place]]);
  });
  return element("ul", {class: "suggestions"}, list.map(([text, places]) => element("li", {},
    element("a", {href: state.address({view: "compare", pick: places.map(place => data.runs[place].key)})}, text))));
}

/** For each label fraction of a study, one run of every line: those of the subset and seed that most of them share. */
function sameFaces(study) {
  return study.fractions.map(([share, text]) => {
    const groups = study.lines.map(line => (line.scores.find(score => score.at === share) ?? {runs: []}).runs).filter(runs => runs.length);
    const draw = place => `${about("subset", place)} ${about("seed", place)}`;
    const counts = new Map();
    for (const runs of groups) for (const one of new Set(runs.map(draw))) counts.set(one, (counts.get(one) ?? 0) + 1);
    const common = [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];
    return [text, groups.map(runs => runs.find(place => draw(place) === common) ?? runs[0])];
  }).filter(([, places]) => places.length);
}

function section(title, ...children) {
  const id = `part-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return element("section", {class: "part", "aria-labelledby": id}, element("h3", {id}, title), ...children);
}

function curveSection(places, names) {
  const all = curveNames(places);
  if (!all.length) return null;
  const name = all.includes(state.one("curve")) ? state.one("curve") : all[0];
  const x = state.one("x", "epoch"), weight = Number(state.one("smooth", name.startsWith("train/") ? "0.6" : "0")), log = state.one("log") === "1";
  const series = places.flatMap((place, i) => {
    const faint = weight ? [{name: names[i], points: pointsOf(place, name, x), colour: colourOf(i), dash: dashOf(i), faint: true}] : [];
    return [...faint, {name: names[i], points: pointsOf(place, name, x, weight), colour: colourOf(i), dash: dashOf(i)}];
  });
  const note = x === "time" ? "Time: a run's seconds spread evenly over its steps." : "";
  return section("Curves", curveTools(all, name, x, weight, log), lines("compare", `${name} by ${AXES[x] ?? x}`, series, {x, y: name, log, note}));
}

function curveTools(all, name, x, weight, log) {
  return element("div", {class: "controls"},
    choice("Curve", all, name, value => state.set({curve: value})),
    choice("by", Object.keys(AXES), x, value => state.set({x: value})),
    element("label", {class: "choice"}, element("span", {}, "Smoothing"), element("input", {type: "range", min: 0, max: 0.98, step: 0.02, value: weight,
      change: event => state.set({smooth: event.target.value})})),
    element("label", {class: "check"}, element("input", {type: "checkbox", checked: log, change: event => state.set({log: event.target.checked ? "1" : null})}), "log scale"));
}

/** Settings without the name of the run's own stage, so that those of two stages stand in one row. */
function settingsOf(place) {
  const found = new Map(), stage = `${data.runs[place].stage}.`;
  for (const column of data.columns) {
    if (column.kind !== "setting" && !["method", "data", "scale", "recipe", "label_fraction", "labelled", "validation_labels", "subset", "seed"].includes(column.name)) continue;
    const value = valueOf(column, place);
    if (value === null) continue;
    const name = column.name.startsWith(stage) ? column.name.slice(stage.length) : column.name;
    if (!found.has(name) || column.name.startsWith(stage)) found.set(name, column.kind === "about" ? shown(column, value) : String(value));
  }
  return found;
}

function differences(places, names) {
  const settings = places.map(settingsOf);
  const every = [...new Set(settings.flatMap(own => [...own.keys()]))];
  const differing = every.filter(name => new Set(settings.map(own => own.get(name))).size > 1);
  const same = every.filter(name => !differing.includes(name));
  const common = differing.filter(name => settings.every(own => own.has(name))), partial = differing.filter(name => !common.includes(name));
  const first = partial.length > 8 ? common : [...common, ...partial];
  const rows = list => list.map(name => element("tr", {}, element("th", {scope: "row"}, element("code", {}, name)),
    settings.map(own => element("td", {}, own.has(name) ? element("code", {}, own.get(name)) : element("span", {class: "muted"}, "not set")))));
  const head = element("thead", {}, element("tr", {}, element("th", {scope: "col"}, "setting"), names.map(name => element("th", {scope: "col"}, name))));
  return section("Settings",
    places.length > 1 ? wide("Settings that differ", element("table", {id: "differing", class: "narrow"}, head, element("tbody", {},
      first.length ? rows(first) : differing.length ? null : element("tr", {}, element("td", {colspan: places.length + 1}, "All settings are equal."))))) : null,
    partial.length > 8 ? element("details", {}, element("summary", {}, `${partial.length} settings that only some of them have`),
      wide("Settings of some runs", element("table", {class: "narrow"}, head.cloneNode(true), element("tbody", {}, rows(partial))))) : null,
    element("details", {}, element("summary", {}, `${same.length} ${places.length > 1 ? "equal settings" : "settings"}`),
      wide("Equal settings", element("table", {class: "narrow"}, element("tbody", {}, same.map(name => element("tr", {},
        element("th", {scope: "row"}, element("code", {}, name)), element("td", {}, element("code", {}, settings.find(own => own.has(name)).get(name))))))))));
}

const wide = (label, ...children) => element("div", {class: "wide", role: "region", "aria-label": `${label}, table`, tabindex: 0}, children);

/** Names of the classes with an IoU, in the order of the class set. */
function classNames(places) {
  const order = new Map((places.map(place => data.runs[place].classes).find(Boolean) ?? []).map(([name], i) => [name, i]));
  return scoredClasses(places).sort((a, b) => (order.get(a) ?? 999) - (order.get(b) ?? 999));
}

const scoredClasses = places => data.columns.filter(column => column.kind === "metric" && column.name.startsWith("test/iou/")
  && places.some(place => valueOf(column, place) !== null)).map(column => column.name.slice("test/iou/".length));

function classSection(places, names) {
  const classes = classNames(places);
  if (!classes.length) return null;
  const base = places.find(place => data.runs[place].method === "baseline") ?? places[0];
  const wanted = placeOf.get(state.one("against"));
  const reference = places.includes(wanted) ? wanted : base;
  const difference = (name, place) => {
    const [ours, theirs] = [metric(`test/iou/${name}`, place), metric(`test/iou/${name}`, reference)];
    return ours === null || theirs === null ? null : 100 * (ours - theirs);
  };
  const others = places.filter(place => place !== reference);
  const least = name => Math.min(...others.map(place => difference(name, place) ?? Infinity));
  const sorted = state.one("classes") === "by loss" || others.length === 1 ? [...classes].sort((a, b) => least(a) - least(b)) : classes;
  const reach = Math.max(1, ...classes.flatMap(name => others.map(place => Math.abs(difference(name, place) ?? 0))));
  const worst = others.map(place => [...classes].sort((a, b) => (difference(a, place) ?? Infinity) - (difference(b, place) ?? Infinity))[0]);
  const sentences = others.slice(0, 6).map((place, i) => element("li", {}, `${names[places.indexOf(place)]}: `, lossSentence(difference(worst[i], place), worst[i])));
  return section("IoU by class",
    element("div", {class: "controls"}, choice("Against", places.map((place, i) => [data.runs[place].key, names[i]]), data.runs[reference].key, value => state.set({against: value}))),
    others.length ? element("ul", {class: "plain-list", id: "worst-class"}, sentences) : null,
    wide("IoU by class", element("table", {id: "classes-compared"},
      element("thead", {}, element("tr", {}, element("th", {scope: "col"}, "class"), element("th", {scope: "col", class: "number"}, "pixels"),
        places.map((place, i) => element("th", {scope: "col", class: "number"}, names[i])))),
      element("tbody", {}, sorted.map(name => element("tr", {}, element("th", {scope: "row"}, name.replaceAll("_", " ")),
        element("td", {class: "number muted"}, shownCount(metric(`test/count/${name}`, reference))),
        places.map(place => classCell(metric(`test/iou/${name}`, place), place === reference ? null : difference(name, place), reach))))))),
    element("p", {class: "note muted"}, "IoU on the test set in per cent, and the difference in points. The bars are of the differences; pixels are those of the ground truth."));
}

const shownCount = value => value === null ? "" : grouped(Math.round(value));

function lossSentence(points, name) {
  const words = (name ?? "").replaceAll("_", " ");
  if (points === null || points === undefined) return "no class in common";
  return points < 0 ? element("span", {}, "lost most in ", element("strong", {}, words), ` (${signed(points)} points)`)
    : element("span", {}, "no class lost; gained least in ", element("strong", {}, words), ` (${signed(points)} points)`);
}

function classCell(value, points, reach) {
  const bar = points === null ? null : element("span", {class: `change ${points < 0 ? "worse" : "better"}`, style: `--share:${(50 * Math.abs(points) / reach).toFixed(1)}%`, "aria-hidden": "true"});
  return element("td", {class: "number compared"}, percent(value), points === null ? null : element("span", {class: "points"}, signed(points)), bar);
}

/** Rows of the same faces, a column for each run. */
function faceSection(places, names) {
  const splits = [...new Set(places.flatMap(place => Object.keys(data.runs[place].splits ?? {})))];
  if (!splits.length) return null;
  const split = splits.includes(state.one("split")) ? state.one("split") : splits[0];
  const having = places.filter(place => data.runs[place].splits?.[split]);
  const faces = [...new Set(having.flatMap(place => Object.keys(data.runs[place].splits[split])))];
  faces.sort((a, b) => having.filter(place => b in data.runs[place].splits[split]).length - having.filter(place => a in data.runs[place].splits[split]).length);
  const kinds = [...new Set(having.flatMap(place => Object.values(data.runs[place].splits[split]).flatMap(Object.keys)))];
  const results = kinds.filter(kind => !["image", "ground_truth", "masked", "noisy"].includes(kind));
  const shared = kinds.filter(kind => ["image", "ground_truth"].includes(kind));
  const result = results.includes(state.one("result")) ? state.one("result") : results[0];
  const tile = (place, face, kind, name) => {
    const found = data.runs[place].splits[split][face]?.[kind];
    return element("td", {}, found === undefined ? element("span", {class: "muted"}, "none") : image(found, `${name} of ${face}`));
  };
  const table = element("table", {class: "tiles", id: "same-faces"},
    element("thead", {}, element("tr", {}, element("th", {scope: "col"}, "face"), shared.map(kind => element("th", {scope: "col"}, kind.replace("_", " "))),
      result ? having.map(place => element("th", {scope: "col"}, names[places.indexOf(place)])) : null)),
    element("tbody", {}, faces.slice(0, 6).map(face => {
      const first = having.find(place => face in data.runs[place].splits[split]);
      return element("tr", {}, element("th", {scope: "row"}, face), shared.map(kind => tile(first, face, kind, kind.replace("_", " "))),
        result ? having.map(place => tile(place, face, result, names[places.indexOf(place)])) : null);
    })));
  return section("The same faces", element("div", {class: "controls"},
    splits.length > 1 ? choice("Images of", splits, split, value => state.set({split: value})) : null,
    results.length > 1 ? choice("Show", results, result, value => state.set({result: value})) : null),
  wide("The same faces", table), legend(having[0]));
}

function legend(place) {
  const classes = data.runs[place]?.classes;
  if (!classes) return null;
  return element("ul", {class: "legend", "aria-label": "Class colours"}, classes.map(([name, value]) => element("li", {},
    element("span", {class: "swatch", style: `background:${/^#[0-9a-f]{6}$/.test(value) ? value : "none"}`}), name.replaceAll("_", " "))));
}

/** Validation faces of several runs at an epoch that a slider chooses. */
function epochSection(places, names) {
  const having = places.filter(place => data.runs[place].epochs);
  if (!having.length) return null;
  const all = [...new Set(having.flatMap(place => data.runs[place].epochs.map(([epoch]) => epoch)))].sort((a, b) => a - b);
  const body = element("div", {class: "side"});
  const label = element("output", {});
  const show = number => {
    const epoch = all[number];
    label.textContent = `epoch ${epoch}`;
    body.replaceChildren(...having.map(place => {
      const [at, found] = data.runs[place].epochs.filter(([one]) => one <= epoch).at(-1) ?? data.runs[place].epochs[0];
      const name = names[places.indexOf(place)] ?? "";
      const words = having.length > 1 || places.length > 1 ? `${name}, epoch ${at}` : `epoch ${at}`;
      return element("figure", {class: "epoch"}, element("figcaption", {}, words), image(found, `Validation faces, ${words}`, {class: "grid"}));
    }));
  };
  const wanted = Number(state.one("at", String(all.at(-1))));
  const start = Math.max(0, all.findLastIndex(epoch => epoch <= wanted));
  const slider = element("input", {type: "range", min: 0, max: all.length - 1, step: 1, value: start, "aria-label": "Epoch", "aria-valuetext": `epoch ${all[start]}`, input: event => {
    show(Number(event.target.value));
    event.target.setAttribute("aria-valuetext", `epoch ${all[event.target.value]}`);
    state.set({at: all[event.target.value]}, true);
  }});
  show(start);
  const columns = having.some(place => data.runs[place].stage === "pretrain") ? "image, masked image, reconstruction" : "image, ground truth, prediction";
  return section("Images by epoch", element("div", {class: "controls slider"}, slider, label,
    element("span", {class: "muted"}, `${all.length} ${all.length === 1 ? "epoch" : "epochs"}, ${all[0]} to ${all.at(-1)}; columns: ${columns}`)), body);
}
