// One run: what it was made from, curves, images, confusions, classes, and the command that repeats it.
function showRun() {
  const root = find("#run-body"), place = placeOf.get(state.one("run"));
  const run = data.runs[place];
  if (!run) {
    root.replaceChildren(element("p", {}, "This run is not in the folder. ", element("a", {href: state.address({view: "runs", run: null})}, "All runs")));
    return;
  }
  root.replaceChildren(...[
    element("h2", {id: "run-title"}, `${run.name} `, element("code", {}, `${run.stage}-${run.id}`)),
    element("p", {}, stateMark(run), " ", element("span", {class: "muted"}, [about("experiment", place), about("data", place), scoreText(place)].filter(Boolean).join(" · "))),
    run.error ? element("pre", {class: "error"}, run.error) : null,
    actions(run, place), facts(run, place), commandPart(run), lineage(place), curvesPart(run, place), epochSection([place], [run.name]), facesPart(run),
    classPart(run, place), confusionPart(run), settingsPart(place), attemptsPart(run),
  ].filter(Boolean));
  plotAll(root);
}

const scoreText = place => {
  const score = metric("test/miou", place), gain = about("gain", place);
  return score === null ? "" : `test mIoU ${percent(score)} %${gain === null ? "" : `, ${signed(gain)} over its baseline`}`;
};

function actions(run, place) {
  const isPicked = picked().includes(place);
  const compare = others => state.address({view: "compare", pick: [...others, place].map(one => data.runs[one].key)});
  return element("p", {class: "controls"},
    run.baseline === undefined ? null : element("a", {class: "button", href: compare([run.baseline])}, "Compare with its baseline"),
    element("button", {type: "button", "aria-pressed": String(isPicked), click: event => {
      const on = !picked().includes(place);
      pick([place], on);
      event.target.setAttribute("aria-pressed", String(on));
      event.target.textContent = on ? "Picked" : "Pick";
    }}, isPicked ? "Picked" : "Pick"),
    element("a", {class: "button quiet", href: run.page}, "All metrics and images"),
    location.protocol === "file:" ? element("a", {class: "button quiet", href: run.folder}, "Folder") : null);
}

function facts(run, place) {
  const {done, total, seconds, left} = run.progress;
  const known = [
    ["Labels", [about("labelled", place) === null ? null : `${grouped(about("labelled", place))} images`, about("label_fraction", place) === null ? null : `${digits(100 * about("label_fraction", place))} %`].filter(Boolean).join(", ")],
    ["Validation labels", about("validation_labels", place) === null ? "" : about("validation_labels", place) ? `${about("validation_labels", place)} chose the epoch` : "none used"],
    ["Epoch", total ? `${done ?? 0} of ${total}` : done ? String(done) : ""],
    ["Time", seconds ? clock(seconds) : ""], ["Left", left === undefined || left === null ? "" : `${clock(left)}, ends about ${endsAt(left)}`],
    ["Speed", about("images_per_second", place) === null ? "" : `${digits(about("images_per_second", place))} images/s`],
    ["Memory", about("peak_memory_mb", place) === null ? "" : `${grouped(Math.round(about("peak_memory_mb", place)))} MB`],
    ["Parameters", about("parameters", place) === null ? "" : grouped(about("parameters", place))],
    ["Hardware", about("device", place) ?? ""], ["Commit", (about("git_sha", place) ?? "").slice(0, 10)],
  ];
  return element("dl", {class: "facts"}, known.filter(([, text]) => text).map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))));
}

const endsAt = left => new Date(1000 * (data.written + left)).toLocaleString("en-GB", {weekday: "short", hour: "2-digit", minute: "2-digit"});

function commandPart(run) {
  if (!run.command) return null;
  const code = element("pre", {class: "command", id: "command", tabindex: 0, "aria-label": "Command"}, run.command);
  const copy = element("button", {type: "button", click: async () => {
    getSelection().selectAllChildren(code);
    try {
      await navigator.clipboard.writeText(run.command);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Selected";
    }
  }}, "Copy");
  return section("Command", element("div", {class: "command-line"}, code, copy),
    element("p", {class: "note muted"}, "It composes this run's settings. A finished run is found done: add force=true to train it again. Paths are relative; datamodule.root must lead to the data."));
}

/** Runs that it was made from, and those made from it, level by level. */
function lineage(place) {
  const byId = new Map(data.runs.map((run, i) => [run.id, i]));
  const before = levels([place], one => (data.runs[one].upstreams ?? []).map(id => byId.get(id) ?? id)).reverse();
  const users = new Map();
  data.runs.forEach((run, i) => (run.upstreams ?? []).forEach(id => users.set(id, [...(users.get(id) ?? []), i])));
  const after = levels([place], one => users.get(data.runs[one].id) ?? []);
  const box = one => {
    if (typeof one === "string") return element("li", {class: "box missing"}, element("span", {class: "id"}, one), element("span", {class: "muted"}, "not in this folder"));
    const run = data.runs[one];
    return element("li", {class: one === place ? "box this" : "box"}, element("span", {class: "muted"}, run.stage), one === place ? element("strong", {class: "id"}, run.id) : runLink(one), element("span", {}, run.name));
  };
  const level = list => element("li", {}, element("ul", {class: "level"}, list.slice(0, 8).map(box), list.length > 8 ? element("li", {class: "muted"}, `and ${list.length - 8} more`) : null));
  return section("Made from", element("ol", {class: "lineage", "aria-label": "From its upstream runs to the runs made from it"}, [...before, [place], ...after].map(level)));
}

function levels(start, next) {
  const found = [], seen = new Set(start);
  let current = start;
  while (found.length < 6) {
    current = [...new Set(current.filter(one => typeof one === "number").flatMap(next))].filter(one => !seen.has(one));
    if (!current.length) break;
    current.forEach(one => seen.add(one));
    found.push(current);
  }
  return found;
}

function curvesPart(run, place) {
  const all = curveNames([place]);
  if (!all.length) return null;
  const x = state.one("x", "epoch"), log = state.one("log") === "1";
  const losses = all.filter(name => /^(train|val)\/loss$/.test(name));
  const chosen = all.includes(state.one("curve")) ? state.one("curve") : all.find(name => !losses.includes(name)) ?? all[0];
  const loss = losses.length ? lines("run-loss", "Loss", losses.map((name, i) => ({
    name, points: pointsOf(place, name, x, name.startsWith("train/") ? 0.6 : 0), colour: colourOf(i ? 0 : 1)})), {x, y: "loss", log}) : null;
  const other = lines("run-curve", chosen, [{name: chosen, points: pointsOf(place, chosen, x, Number(state.one("smooth", "0"))), colour: colourOf(0)}], {x, y: chosen, log: false});
  return section("Curves", run.overfitting ? element("p", {id: "overfitting"}, run.overfitting) : null,
    element("div", {class: "controls"}, choice("Curve", all, chosen, value => state.set({curve: value})), choice("by", Object.keys(AXES), x, value => state.set({x: value})),
      element("label", {class: "check"}, element("input", {type: "checkbox", checked: log, change: event => state.set({log: event.target.checked ? "1" : null})}), "log scale")),
    element("div", {class: "pair"}, loss, other));
}

function facesPart(run) {
  if (!run.splits) return null;
  const parts = Object.entries(run.splits).map(([split, faces]) => {
    const kinds = [...new Set(Object.values(faces).flatMap(Object.keys))];
    return wide(`Images of ${split}`, element("table", {class: "tiles"},
      element("thead", {}, element("tr", {}, element("th", {scope: "col"}, split), kinds.map(kind => element("th", {scope: "col"}, kind.replace("_", " "))))),
      element("tbody", {}, Object.entries(faces).map(([face, tiles]) => element("tr", {}, element("th", {scope: "row"}, face.replaceAll("_", " ")),
        kinds.map(kind => element("td", {}, kind in tiles ? image(tiles[kind], `${kind.replace("_", " ")} of ${face}`) : "none")))))));
  });
  return section("Images", parts, legend(placeOf.get(run.key)));
}

function classPart(run, place) {
  const classes = classNames([place]);
  if (!classes.length) return null;
  const base = run.baseline;
  const change = name => base === undefined ? null : [metric(`test/iou/${name}`, place), metric(`test/iou/${name}`, base)];
  const points = name => { const pair = change(name); return !pair || pair.includes(null) ? null : 100 * (pair[0] - pair[1]); };
  const reach = Math.max(1, ...classes.map(name => Math.abs(points(name) ?? 0)));
  const worst = [...classes].sort((a, b) => (points(a) ?? Infinity) - (points(b) ?? Infinity))[0];
  return section("Classes", base === undefined ? null : element("p", {id: "against-baseline"}, "Against its baseline ", runLink(base), ": ", lossSentence(points(worst), worst)),
    wide("Classes", element("table", {class: "narrow"}, element("thead", {}, element("tr", {}, ["class", "pixels", "IoU (%)", "F1 (%)"].map((name, i) => element("th", {scope: "col", class: i ? "number" : false}, name)))),
      element("tbody", {}, classes.map(name => element("tr", {}, element("th", {scope: "row"}, name.replaceAll("_", " ")),
        element("td", {class: "number muted"}, shownCount(metric(`test/count/${name}`, place))),
        classCell(metric(`test/iou/${name}`, place), points(name), reach), element("td", {class: "number"}, percent(metric(`test/f1/${name}`, place)))))))));
}

function confusionPart(run) {
  if (!run.confusion) return null;
  const {classes, pixels} = run.confusion;
  const share = (row, column) => { const sum = pixels[row].reduce((a, b) => a + b, 0); return sum ? pixels[row][column] / sum : null; };
  const cell = (row, column) => {
    const value = share(row, column);
    return element("td", {style: `--share:${((value ?? 0) * 100).toFixed(1)}%`, class: (value ?? 0) > 0.55 ? "full" : false}, value === null ? "" : value >= 0.005 ? (100 * value).toFixed(0) : "");
  };
  return section("Confusions", wide("Confusion matrix", element("table", {class: "confusion"},
    element("thead", {}, element("tr", {}, element("th", {scope: "col"}, "true \\ predicted"), classes.map(name => element("th", {scope: "col"}, element("span", {}, name.replaceAll("_", " ")))))),
    element("tbody", {}, classes.map((name, row) => element("tr", {}, element("th", {scope: "row"}, name.replaceAll("_", " ")), classes.map((_, column) => cell(row, column))))))),
  element("p", {class: "note muted"}, "Share in per cent of each true class's pixels that were predicted as each class; below 0.5 % left blank."));
}

function settingsPart(place) {
  const rows = data.columns.filter(column => column.kind === "setting").map(column => [column.name, valueOf(column, place)]).filter(([, value]) => value !== null);
  if (!rows.length) return null;
  return section("Settings", element("details", {}, element("summary", {}, `${rows.length} settings`),
    wide("Settings", element("table", {class: "narrow"}, element("tbody", {}, rows.map(([name, value]) => element("tr", {}, element("th", {scope: "row"}, element("code", {}, name)), element("td", {}, element("code", {}, String(value))))))))));
}

function attemptsPart(run) {
  if (!run.attempts) return null;
  return section("Attempts", wide("Attempts", element("table", {}, element("thead", {}, element("tr", {}, ["attempt", "device", "commit", "versions"].map(name => element("th", {scope: "col"}, name)))),
    element("tbody", {}, run.attempts.map(([number, device, commit, versions]) => element("tr", {}, element("th", {scope: "row"}, number), element("td", {}, device), element("td", {}, element("code", {}, commit.slice(0, 10))), element("td", {class: "words"}, versions)))))));
}
