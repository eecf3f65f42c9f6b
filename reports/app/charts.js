// Charts: Apache ECharts with the page's colours, an alternative text, and files of what is plotted.
const PALETTE = {
  light: ["#0a5fb4", "#b54a00", "#1a7f37", "#7a3fb0", "#b3261e", "#00707a", "#8a6100", "#a8327e", "#4d5966", "#3d3db8"],
  dark: ["#6fb6ff", "#ffa35c", "#56d364", "#c79bff", "#ff9a90", "#4fd0dc", "#e3b341", "#ff8fd0", "#a3adb8", "#a5a5ff"],
};
const DASHES = ["solid", "dashed", "dotted"];
const darkScreen = matchMedia("(prefers-color-scheme: dark)");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const palette = () => PALETTE[darkScreen.matches ? "dark" : "light"];
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const methodColour = method => colour(["mtl", "baseline", "transfer", "semi"].includes(method) ? method : "other");
const colourOf = number => palette()[number % palette().length];
const dashOf = number => DASHES[Math.floor(number / palette().length) % DASHES.length];
const opened = new Map();

function axis(options) {
  return {
    nameLocation: "middle", nameGap: 32,
    nameTextStyle: {color: colour("muted"), fontSize: 12},
    axisLabel: {color: colour("muted"), fontSize: 12, hideOverlap: true},
    axisLine: {lineStyle: {color: colour("muted")}}, axisTick: {lineStyle: {color: colour("line")}},
    splitLine: {lineStyle: {color: colour("line"), width: 1}},
    ...options,
  };
}

function common(description) {
  return {
    animation: false, textStyle: {fontFamily: getComputedStyle(document.body).fontFamily, color: colour("ink")},
    aria: {enabled: true, label: {description}},
    grid: {left: 56, right: 20, top: 16, bottom: 48},
    tooltip: {
      trigger: "axis", renderMode: "html", confine: true, backgroundColor: colour("paper"), borderColor: colour("line"),
      textStyle: {color: colour("ink"), fontSize: 13}, axisPointer: {type: "line", lineStyle: {color: colour("muted")}},
      order: "valueDesc",
    },
  };
}

/**
 * A figure with a chart in it.
 * @param {string} name identifies the chart; what was zoomed stays when it is plotted again
 * @param {string} title
 * @param {object} option of ECharts
 * @param {() => any[][]} rows the plotted values, for the CSV file
 */
function chart(name, title, option, rows, note = "") {
  const place = element("div", {class: "plot", id: `plot-${name}`});
  const file = name.replace(/[^a-z0-9]+/gi, "_");
  const tools = element("span", {class: "tools"},
    ["png", "svg"].map(kind => element("button", {type: "button", click: () => download(`${file}.${kind}`, exported(name, kind)),
      "aria-label": `${title} as ${kind.toUpperCase()}`}, kind.toUpperCase())),
    element("button", {type: "button", click: () => download(`${file}.csv`, csv(rows()), "text/csv"),
      "aria-label": `Values of ${title} as CSV`}, "CSV"));
  const figure = element("figure", {class: "figure"},
    element("figcaption", {}, element("strong", {}, title), tools), place, note && element("p", {class: "note muted"}, note));
  place.plot = () => {
    opened.get(name)?.instance.dispose();
    const instance = echarts.init(place, null, {renderer: "svg"});
    instance.setOption(option);
    opened.set(name, {instance, option, place});
  };
  return figure;
}

/** Plot the charts below an element that is now on the page. */
function plotAll(root) {
  for (const [name, {instance, place}] of opened) {
    if (!document.contains(place)) {
      instance.dispose();
      opened.delete(name);
    }
  }
  for (const place of root.querySelectorAll(".plot")) place.plot();
}

function exported(name, kind) {
  const {option, place} = opened.get(name);
  const outside = element("div", {});
  const sized = echarts.init(outside, null, {
    renderer: kind === "svg" ? "svg" : "canvas", width: place.clientWidth, height: place.clientHeight, devicePixelRatio: 2,
  });
  sized.setOption(option);
  const address = sized.getDataURL({type: kind, pixelRatio: 3, backgroundColor: colour("paper")});
  sized.dispose();
  return address;
}

addEventListener("resize", () => opened.forEach(({instance}) => instance.resize()));

/** Exponential moving average, corrected at the beginning. */
function smoothed(values, weight) {
  if (!weight) return values;
  let average = 0, sum = 0;
  return values.map(value => {
    if (value === null) return null;
    average = weight * average + (1 - weight) * value;
    sum = weight * sum + 1 - weight;
    return average / sum;
  });
}

/** Points of one curve of a run: [x, y, step]. */
function pointsOf(place, name, x, weight = 0) {
  const run = data.runs[place];
  const group = (run.curves ?? []).find(group => name in group.y);
  if (!group) return [];
  const last = Math.max(1, ...(run.curves ?? []).map(other => other.step.at(-1)));
  const seconds = run.progress.seconds ?? null;
  const scale = isShare(name) ? 100 : 1;
  const at = {
    step: step => step, epoch: (step, i) => (group.epoch[i] ?? 0) + (name.startsWith("train/") ? fractionOf(run, step, group.epoch[i]) : 1),
    time: step => seconds === null ? null : seconds * step / last / 60,
  }[x];
  return smoothed(group.y[name], weight).map((y, i) => [at(group.step[i], i), y === null ? null : scale * y, group.step[i]]);
}

/** How much of an epoch is done at a step: training points lie between the epochs' ends. */
function fractionOf(run, step, epoch) {
  const last = Math.max(...run.curves.map(group => group.step.at(-1))) + 1;
  const epochs = Math.max(...run.curves.flatMap(group => group.epoch.map(value => value ?? 0))) + 1;
  return Math.min(1, Math.max(0, step / (last / epochs) - epoch));
}

const AXES = {step: "optimiser step", epoch: "epoch", time: "minutes"};

/** A chart of lines: [{name, points, colour, dash, faint}]. */
function lines(name, title, series, {x, y, log = false, note = "", height = false}) {
  const unit = isShare(y) ? `${y} (%)` : y;
  const plotted = series.filter(line => line.points.length);
  const option = {
    ...common(`${title}. ${plotted.map(line => `${line.name}: ${digits(line.points.at(-1)[1] ?? NaN)} at the end`).join("; ")}.`),
    legend: {show: plotted.length > 1, type: "scroll", bottom: 0, itemWidth: 18, itemHeight: 8, textStyle: {color: colour("ink"), fontSize: 12},
      pageTextStyle: {color: colour("muted")}, pageIconColor: colour("muted"), data: [...new Set(plotted.map(line => line.name))]},
    grid: {left: 60, right: 20, top: 16, bottom: plotted.length > 1 ? 78 : 48},
    xAxis: axis({type: "value", name: AXES[x] ?? x, min: "dataMin", max: "dataMax", splitLine: {show: false}, nameGap: 28}),
    yAxis: axis({type: log ? "log" : "value", name: unit, nameGap: 44, scale: true}),
    dataZoom: [{type: "inside", filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false}],
    series: plotted.map(line => ({
      type: "line", name: line.name, data: log ? line.points.filter(point => point[1] > 0) : line.points,
      showSymbol: line.points.length < 40, symbol: "circle", symbolSize: 5, sampling: "lttb",
      lineStyle: {color: line.colour, width: line.faint ? 1 : 2, type: line.dash ?? "solid", opacity: line.faint ? 0.3 : 1},
      itemStyle: {color: line.colour}, emphasis: {focus: "series"}, silent: Boolean(line.faint), tooltip: {show: !line.faint},
    })),
  };
  option.tooltip.formatter = parts => hover(parts, x);
  const rows = () => [["run", AXES[x] ?? x, unit], ...plotted.filter(line => !line.faint).flatMap(line => line.points.map(([at, value]) => [line.name, at, value]))];
  return chart(name, title, option, rows, note);
}

function hover(parts, x) {
  const list = [parts].flat().filter(part => part.value?.[1] !== null && part.value?.[1] !== undefined).slice(0, 20);
  if (!list.length) return "";
  const where = element("div", {class: "muted"}, `${AXES[x] ?? x} ${digits(Number(list[0].value[0].toPrecision(4)))}`);
  const lines = list.map(part => element("div", {class: "hovered"},
    element("span", {class: "dot", style: `background:${part.color}`}), element("span", {}, part.seriesName),
    element("strong", {}, digits(part.value[1]))));
  return element("div", {}, where, lines);
}

/** Label efficiency: scores and gains of every method by number of labels. */
function efficiency(study, number) {
  const ticks = study.fractions.map(([, text]) => text.replace(" (", "\n").replace(")", ""));
  const place = new Map(study.fractions.map(([share], i) => [share, i]));
  const names = lines => lines.map(line => line.name);
  const used = new Map();
  const crowded = new Set(study.lines.map(line => line.method)).size < study.lines.length;
  const styled = study.lines.map((line, place) => {
    const nth = used.get(line.method) ?? 0;
    used.set(line.method, nth + 1);
    const known = ["mtl", "baseline", "transfer", "semi"].includes(line.method);
    if (crowded) return {...line, colour: colourOf(place), dash: dashOf(place)};
    return {...line, colour: known ? methodColour(line.method) : colourOf(5 + used.size), dash: DASHES[nth % 3]};
  });
  // With one number of labels, the methods stand next to each other.
  const one = study.fractions.length === 1;
  const among = lines => (line, point) => one ? lines.indexOf(line) : place.get(point.at);
  const title = one ? `Test mIoU with ${study.fractions[0][1]} labelled` : "Test mIoU by labels";
  const scores = bars(`efficiency-${number}`, title, styled, "scores", "deviation", "test mIoU (%)", one ? names(styled) : ticks, among(styled), []);
  const gaining = styled.filter(line => line.gains.length);
  if (!gaining.length) return [scores];
  const gains = bars(`gains-${number}`, "Gain over the baseline with the same labels", gaining, "gains", "reach", "mIoU points", one ? names(gaining) : ticks, among(gaining), one ? [] : study.paper.filter(([share]) => place.has(share)).map(([share, gain]) => [place.get(share), gain]));
  return [scores, gains];
}

function bars(name, title, styled, kind, spread, unit, ticks, where, paper) {
  const one = ticks.length === styled.length && ticks[0] === styled[0].name;
  const shift = line => (styled.indexOf(line) - (styled.length - 1) / 2) * 7;
  const series = styled.flatMap(line => {
    const means = line[kind].map(point => [where(line, point), point.mean, point]);
    return [
      {type: "line", name: line.name, data: means, symbol: "circle", symbolSize: 8, lineStyle: {color: line.colour, width: 2, type: line.dash},
        itemStyle: {color: line.colour}, emphasis: {focus: "series"}, z: 3},
      {type: "custom", name: line.name, silent: true, z: 2, itemStyle: {color: line.colour},
        data: line[kind].filter(point => point[spread]).map(point => [where(line, point), point.mean - point[spread], point.mean + point[spread]]),
        encode: {x: 0, y: [1, 2]}, renderItem: (_, api) => whisker(api, line.colour)},
      {type: "scatter", name: line.name, silent: true, z: 1, symbolSize: 5, itemStyle: {color: line.colour, opacity: 0.45},
        symbolOffset: [shift(line), 0],
        data: line[kind].flatMap(point => point.values.length > 1 ? point.values.map(value => [where(line, point), value]) : [])},
    ];
  });
  if (paper.length) {
    series.push({type: "scatter", name: "the paper (as printed)", symbol: "diamond", symbolSize: 11, z: 4,
      itemStyle: {color: "transparent", borderColor: colour("muted"), borderWidth: 2},
      data: paper});
  }
  const option = {
    ...common(`${title}. ${styled.map(line => line[kind].map(point => `${line.name} ${point.mean} at ${point.at} %`).join(", ")).join("; ")}.`),
    legend: {show: !one, type: "scroll", bottom: 0, itemWidth: 18, itemHeight: 8, textStyle: {color: colour("ink"), fontSize: 12},
      pageTextStyle: {color: colour("muted")}, pageIconColor: colour("muted"), data: [...new Set(series.map(one => one.name))]},
    grid: {left: 60, right: 20, top: 16, bottom: one ? 36 : 100},
    xAxis: axis({type: "category", data: ticks, name: one ? "" : "labelled images", nameGap: 42, boundaryGap: true,
      axisLabel: {color: colour("muted"), fontSize: 12, interval: 0, hideOverlap: true, lineHeight: 15}}),
    yAxis: axis({type: "value", name: unit, nameGap: 44, scale: kind === "scores"}),
    series,
  };
  if (kind === "gains") {
    series[0].markLine = {silent: true, symbol: "none", label: {show: false}, data: [{yAxis: 0}], lineStyle: {color: colour("ink"), type: "solid", width: 1}};
  }
  option.tooltip.trigger = "item";
  option.tooltip.formatter = part => {
    const point = part.value[2];
    const text = kind === "gains" ? signed(part.value[1]) : part.value[1].toFixed(2);
    if (!point || typeof point !== "object") return element("div", {}, `${part.seriesName}: ${text}`);
    const n = point.values.length;
    const apart = !point[spread] ? "one run" : kind === "gains"
      ? `95 % interval ${signed(point.mean - point[spread])} to ${signed(point.mean + point[spread])}, n = ${n}` : `± ${point[spread]}, n = ${n}`;
    return element("div", {}, element("strong", {}, part.seriesName), element("div", {}, `${text} at ${digits(point.at)} % of the labels`), element("div", {class: "muted"}, apart));
  };
  const rows = () => [["method", "labels (%)", unit, spread, "n"], ...styled.flatMap(line => line[kind].map(point => [line.name, point.at, point.mean, point[spread], point.values.length]))];
  const figure = chart(name, title, option, rows);
  find(".plot", figure).classList.toggle("low", one);
  return figure;
}

function whisker(api, stroke) {
  const low = api.coord([api.value(0), api.value(1)]), high = api.coord([api.value(0), api.value(2)]);
  const line = (x1, y1, x2, y2) => ({type: "line", shape: {x1, y1, x2, y2}, style: {stroke, lineWidth: 1.5}});
  return {type: "group", children: [line(low[0], low[1], high[0], high[1]),
    line(low[0] - 5, low[1], low[0] + 5, low[1]), line(high[0] - 5, high[1], high[0] + 5, high[1])]};
}
