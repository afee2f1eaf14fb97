// The page of a generation, from its data alone: embedded in a report, or fetched from a server, whose events announce changes.
// Every string of the data is put on the page as text, never as markup; Plotly, which reads some markup, gets it escaped.
"use strict";

const $ = (id) => document.getElementById(id);
const embedded = $("data");
const COLOURS = {
  completed: "--good", failed: "--bad", timed_out: "--warn", interrupted: "--accent", lost: "--lost",
  corrupt: "--damaged", undelivered: "--undelivered", withdrawn: "--quiet", rejected: "--ink", playing: "--playing",
};
let shown = null; // the data that is on the page
let wanted = null; // the generation that it is asked for
let folders = new Set(); // the attempts of this generation that have a folder with a link to it
let sorted = { column: "fitness", down: true };

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const words = (name) => name.replaceAll("_", " ");
const local = (at) => new Date(1000 * at - 60000 * new Date(1000 * at).getTimezoneOffset()).toISOString().slice(0, -1);
const clock = (at) => local(at).slice(11, 19);
const figure = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(6)).toString());

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "?";
  if (seconds < 60) return `${Number(seconds.toPrecision(3))} s`;
  const whole = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor((whole % 3600) / 60);
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function table(target, head, rows) {
  const cells = (row, tag) => row.map((cell) => {
    const [text, className] = Array.isArray(cell) ? cell : [cell, ""];
    const made = element(tag, typeof text === "object" ? undefined : text, className);
    if (typeof text === "object") made.append(text);
    return made;
  });
  const body = element("tbody"), top = element("thead"), line = element("tr");
  line.append(...cells(head, "th"));
  top.append(line);
  for (const row of rows) {
    const made = element("tr");
    made.append(...cells(row, "td"));
    body.append(made);
  }
  target.replaceChildren(top, body);
}

// ------------------------------------------------------------------------------------------------------------ plots

function plot(id, traces, layout) {
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
  const base = {
    margin: { l: 48, r: 12, t: 30, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--ink"), size: 12 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, hovermode: "closest",
    hoverlabel: { align: "left" }, bargap: 0.25,
  };
  const { xaxis, yaxis, ...rest } = layout;
  const full = { ...base, ...rest, xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis } };
  Plotly.react(id, traces, full, { displayModeBar: false, responsive: true });
}

function drawTrend(trend) {
  const x = trend.map((one) => one.generation), line = (name, y, look) => ({
    name, x, y, type: "scatter", mode: "lines+markers", line: { color: colour("--accent"), ...look }, marker: { size: 5 },
  });
  const quarter = (n) => trend.map((one) => one.quarters[n]);
  plot("trend", [
    { ...line("lower quarter", quarter(0), { width: 0 }), mode: "lines", showlegend: false, hoverinfo: "skip" },
    { ...line("interquartile range", quarter(2), { width: 0 }), mode: "lines", fill: "tonexty", fillcolor: colour("--quiet") + "66", hoverinfo: "skip" },
    line("best", trend.map((one) => one.best), { color: colour("--good"), width: 2.5 }),
    line("mean", trend.map((one) => one.mean), { width: 2 }),
    line("median", quarter(1), { width: 1.5, dash: "dot" }),
  ], { xaxis: { title: { text: "generation" }, dtick: x.length < 12 ? 1 : undefined }, yaxis: { title: { text: "fitness" } } });
}

function drawSpread({ values, counts, width }) {
  const titles = { xaxis: { title: { text: "fitness" } }, yaxis: { title: { text: "genomes" } } }, marker = { color: colour("--accent") };
  if (width !== null) { // how many there are in each range
    const hovertemplate = "%{y} genomes around %{x}<extra></extra>";
    plot("spread", [{ type: "bar", x: values, y: counts, width, marker, hovertemplate }], { ...titles, bargap: 0.06 });
    return;
  }
  const span = values.length > 1 ? values.at(-1) - values[0] : 2; // a bar per value: ranges of a few values show nothing
  const labels = values.length < 5 ? { tickvals: values, ticktext: values.map(figure) } : {};
  Object.assign(titles.xaxis, labels, { range: values.length ? [values[0] - span / 4, values.at(-1) + span / 4] : undefined });
  titles.yaxis.dtick = Math.max(0, ...counts) < 12 ? 1 : undefined;
  plot("spread", [{
    type: "bar", x: values, y: counts, marker, width: span / 40, hovertemplate: "%{y} genomes: %{x}<extra></extra>",
  }], titles);
}

function drawGantt(sheet) {
  const all = sheet.attempts, groups = new Map(), now = Date.now() / 1000;
  all.outcome.forEach((outcome, n) => groups.set(outcome, [...(groups.get(outcome) || []), n]));
  const to = all.from.map((from, n) => all.to[n] ?? (sheet.playing ? Math.max(from, now) : from));
  const begin = Math.min(...all.from), end = Math.max(...to);
  const short = (n) => to[n] - all.from[n] < (end - begin) / 1000; // less than a pixel wide: its border makes it visible
  const traces = [...groups].map(([outcome, rows]) => ({
    type: "bar", orientation: "h", name: words(outcome), marker: {
      color: colour(COLOURS[outcome] || "--ink"),
      line: { color: colour(COLOURS[outcome] || "--ink"), width: rows.map((n) => (short(n) ? 1 : 0)) },
    },
    base: rows.map((n) => local(all.from[n])),
    x: rows.map((n) => 1000 * Math.max(0.001, to[n] - all.from[n])),
    y: rows.map((n) => sheet.workers[all.worker[n]].name),
    hovertext: rows.map((n) => escaped(
      `${all.genome[n]}, trial ${all.trial[n]}: ${words(all.outcome[n])}`
      + (all.fitness[n] === null ? "" : ` ${figure(all.fitness[n])}`) + (all.why[n] ? `: ${all.why[n]}` : ""))),
    hovertemplate: "%{hovertext}<extra>%{y}</extra>",
  }));
  plot("gantt", traces, { barmode: "overlay", xaxis: { type: "date" }, yaxis: {
    type: "category", autorange: "reversed", categoryorder: "array", categoryarray: sheet.workers.map((one) => one.name),
  } });
  const [drawn, played] = [all.outcome.length, sheet.played];
  $("sampled").textContent = drawn < played ? `${drawn} of ${played} games are drawn; attempts.csv has all.` : "";
}

function drawWorkers(workers) {
  const names = workers.map((one) => one.name);
  const outcomes = Object.keys(COLOURS).filter((outcome) => workers.some((one) => one.outcomes[outcome]));
  plot("outcomes", outcomes.map((outcome) => ({
    type: "bar", name: words(outcome), x: names, y: workers.map((one) => one.outcomes[outcome] || 0),
    marker: { color: colour(COLOURS[outcome]) }, hovertemplate: `%{y} ${words(outcome)}<extra>%{x}</extra>`,
  })), { barmode: "stack", yaxis: { title: { text: "attempts" } }, xaxis: { type: "category" } });
  const boxes = (key) => workers.map((one) => ({
    type: "box", name: one.name, y: one[key], boxpoints: "all", jitter: 0.5, pointpos: 0, marker: { size: 3, color: colour("--accent") },
    line: { color: colour("--accent"), width: 1.5 }, fillcolor: "rgba(0,0,0,0)",
  }));
  plot("fitness", boxes("fitness"), { showlegend: false, xaxis: { type: "category" } });
  plot("seconds", boxes("seconds"), { showlegend: false, xaxis: { type: "category" }, yaxis: { rangemode: "tozero" } });
}

// ------------------------------------------------------------------------------------------------------------ words

function tiles(sheet) {
  const counts = sheet.counts, bad = (n) => (n ? "bad" : "");
  const lost = ["lost", "interrupted", "corrupt", "undelivered"].reduce((sum, name) => sum + counts.attempts[name], 0);
  const entries = [
    ["genomes", counts.submitted], ["completed", counts.completed, "good"], ["failed", counts.failed, bad(counts.failed)],
    ["open", counts.open], ["lost", counts.lost, bad(counts.lost)], ["duplicated", counts.duplicated, bad(counts.duplicated)],
    ["attempts", counts.attempts.issued], ["attempts lost", lost, lost ? "warn" : ""],
    ["time", duration(counts.wall_s)], ["utilisation", `${Math.round(100 * counts.utilisation)} %`],
    ["best fitness", sheet.best ? figure(sheet.best.fitness) : "–"], ["best genome", sheet.best ? sheet.best.name : "–", "name"],
  ];
  $("tiles").replaceChildren(...entries.map(([name, value, className]) => {
    const made = element("div");
    made.append(element("dt", name), element("dd", value, className));
    return made;
  }));
}

// The log and artifacts of an attempt: a link in a report, which lies beside the results; a server shows no files.
function filesOf(attempt, text) {
  if (!folders.has(attempt)) {
    const made = element("span", text);
    made.title = `${attempt} in results/${shown.archives[$("generation").value]}/results.jsonl`;
    return made;
  }
  const link = element("a", text);
  link.href = `${shown.results}/${shown.archives[$("generation").value]}/attempts/${attempt}/`;
  link.title = "log and artifacts of this attempt";
  return link;
}

function trialCell(one) {
  const made = element("span");
  one.trials.forEach((fitness, n) => {
    made.append(n ? "  " : "", one.files[n] ? filesOf(one.files[n], figure(fitness)) : figure(fitness));
  });
  return made;
}

function drawGenomes({ genomes, counts }) {
  const wanted = $("find").value.toLowerCase();
  const params = [...new Set(genomes.flatMap((one) => Object.keys(one.params)))].sort();
  const metrics = [...new Set(genomes.flatMap((one) => Object.keys(one.metrics)))].sort();
  const columns = [
    ...["name", "fitness", "status"].map((key) => ({ key, name: key, value: (one) => one[key] })),
    ...params.map((name) => ({ key: `param ${name}`, name, value: (one) => one.params[name] ?? null })),
    ...metrics.map((name) => ({ key: `metric ${name}`, name, value: (one) => one.metrics[name] ?? null })),
    ...["attempts", "seconds"].map((key) => ({ key, name: key, value: (one) => one[key] })),
  ];
  const chosen = columns.findIndex((column) => column.key === sorted.column), { value } = columns[chosen] ?? columns[1];
  const rows = genomes.filter((one) => one.name.toLowerCase().includes(wanted));
  const last = (cell) => cell === null;
  rows.sort((a, b) => {
    const x = value(a), y = value(b);
    if (last(x) || last(y)) return last(x) - last(y); // without a value: at the end, either way
    const areNumbers = typeof x === "number" && typeof y === "number"; // a param may have values of several types
    return (areNumbers ? x - y : String(x).localeCompare(String(y))) * (sorted.down ? -1 : 1);
  });
  const head = columns.map(({ key, name }, n) => {
    const button = element("button", name);
    button.addEventListener("click", () => {
      sorted = { column: key, down: sorted.column === key ? !sorted.down : key !== "name" && key !== "status" };
      drawGenomes({ genomes, counts });
      $("genomes").querySelectorAll("th button")[n].focus();
    });
    return [button, key === "name" || key === "status" || key.startsWith("param ") ? "" : "number"];
  });
  const mixed = new Set(genomes.flatMap((one) => one.evaluator.split(" ")).filter(Boolean)).size > 1;
  table($("genomes"), [...head, ...(mixed ? ["evaluator"] : []), "trials", ""], rows.map((one) => [
    one.name, [figure(one.fitness), "number"], [one.status, `tight ${{ failed: "bad", completed: "good" }[one.status] || ""}`],
    ...params.map((name) => String(one.params[name] ?? "")),
    ...metrics.map((name) => [figure(one.metrics[name]), "number"]),
    [one.attempts, "number"], [duration(one.seconds), "number"],
    ...(mixed ? [one.evaluator] : []), [trialCell(one), "soft tight"], [one.why, "soft"],
  ]));
  if (chosen >= 0) $("genomes").querySelectorAll("th")[chosen].setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
  const archive = `results/${shown.archives[$("generation").value]}`;
  $("files").textContent = `The result of each attempt is a line of ${archive}/results.jsonl; its log and artifacts, if it has any, are in `
    + `${archive}/attempts/` + (shown.results === null ? "." : ", and its trial is a link to them.")
    + (genomes.length < counts.submitted ? ` ${genomes.length} of ${counts.submitted} genomes are listed: the fittest, and some that failed; results.csv has all.` : "");
}

function drawStories(stories) {
  $("failing").hidden = !stories.length;
  const closed = new Set([...$("stories").querySelectorAll("details:not([open]) summary")].map((one) => one.textContent));
  $("stories").replaceChildren(...stories.map((story) => {
    const made = element("details"), text = element("div", "", "story"), archived = new Set(story.archived);
    made.open = !closed.has(story.genome);
    // Names of attempts have no other characters than these.
    text.append(...story.lines.join("\n").split(/([\w-]+)/).map((part) => (archived.has(part) ? filesOf(part, part) : part)));
    made.append(element("summary", story.genome), text);
    return made;
  }));
}

const STATE_STYLES = { ready: "good", awaited: "soft", loading: "soft", left: "soft", "not configured": "soft" };

function drawSheet(sheet, trend) {
  document.title = `generation ${sheet.generation} · genome-pipeline`;
  $("state").textContent = sheet.counts.finished ? "finished" : sheet.playing ? "running" : "not finished; no host is running it";
  $("mixed").textContent = sheet.mixed;
  $("mixed").hidden = !sheet.mixed;
  tiles(sheet);
  drawTrend(trend);
  drawSpread(sheet.spread);
  drawGantt(sheet);
  drawWorkers(sheet.workers);
  table($("workers"), ["worker", "state", ["completed", "number"], "other outcomes", ["recovery actions", "number"], ""], sheet.workers.map((one) => {
    const others = Object.entries(one.outcomes).filter(([name]) => name !== "completed").map(([name, n]) => `${n} ${words(name)}`);
    return [
      [one.name, "tight"], [one.state, `tight ${STATE_STYLES[one.state] || "warn"}`], [one.outcomes.completed || 0, "number"],
      [others.join(", "), "soft"], [one.recoveries || "", "number"], [one.why, "soft"],
    ];
  }));
  drawStories(sheet.stories);
  drawGenomes(sheet);
  const events = sheet.events.toReversed().map((event) => {
    const made = element("li");
    made.append(element("time", clock(event.at)), event.words);
    return made;
  });
  $("events").replaceChildren(...(events.length ? events : [element("li", "Nothing went wrong: no game failed, no attempt was lost.", "soft")]));
  $("settings").replaceChildren(...Object.entries(sheet.settings).flatMap(([key, value]) => [element("dt", key), element("dd", value ?? "–")]));
}

function drawNow(progress) {
  $("now").hidden = $("bar").hidden = !progress;
  if (!progress) return;
  const done = progress.completed + progress.failed + progress.skipped;
  $("bar").firstElementChild.style.width = `${(100 * done) / Math.max(1, progress.trials)}%`;
  $("state").textContent = `running: ${done} of ${progress.trials} trials, ${duration(progress.elapsed_s)} so far, `
    + `${duration(progress.eta_s)} to go; ${progress.per_minute.toPrecision(3)} trials a minute, ${progress.pending} wait for a worker`;
  const numbers = ["trial", "time / limit", "queued", "losses"].map((name) => [name, "number"]);
  table($("rows"), ["worker", "state", "plays", ...numbers, ""], progress.workers.map((row) => [
    [row.name, "tight"], [row.state, { playing: "good", idle: "soft", awaited: "soft", "at rest": "soft" }[row.state] || "warn"], row.genome,
    [row.trial || "", "number"], [row.genome ? `${duration(row.playing_s)} / ${duration(progress.time_limit_s)}` : "", "number"],
    [row.waiting || "", "number"], [row.losses || "", "number"], [row.note, "soft"],
  ]));
}

// ------------------------------------------------------------------------------------------------------------- data

function choose(generations, chosen) {
  const options = generations.map((number) => {
    const made = element("option", number);
    made.value = number;
    made.selected = number === chosen;
    return made;
  });
  $("generation").replaceChildren(...options);
}

function show(data, generation) {
  shown = data;
  folders = new Set(data.folders[generation]);
  choose(data.generations, generation);
  drawSheet(data.sheets[generation], data.trend);
  document.body.dataset.shown = `${generation}`;
}

// Shows a generation, or what is new in it; null: the one that was played last.
async function look(generation) {
  wanted = generation;
  const answer = await fetch(`/data${generation ? `?gen=${generation}` : ""}`);
  if (!answer.ok) throw new Error(`${answer.status}`);
  const data = await answer.json();
  if (wanted !== generation) return; // another one was chosen meanwhile
  wanted = data.shown;
  show(data, data.shown);
}

async function live() {
  let asking = false;
  $("generation").addEventListener("change", () => look(Number($("generation").value)));
  while (shown === null) { // before the first run
    await look(null).catch(() => null);
    if (shown === null) {
      $("state").textContent = "waiting for the first run …";
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
  const events = new EventSource("/events");
  events.addEventListener("progress", async (event) => {
    const status = JSON.parse(event.data);
    const mine = () => status.progress !== null && status.progress.generation === shown.shown;
    drawNow(mine() ? status.progress : null);
    const isOld = status.facts !== shown.facts || mine() !== shown.sheets[shown.shown].playing; // a host may end without a fact
    if (isOld && !asking) {
      asking = true;
      await look(wanted).catch(() => null);
      drawNow(mine() && shown.sheets[shown.shown].playing ? status.progress : null);
      setTimeout(() => { asking = false; }, 2000); // the whole sheet, at most so often
    }
  });
  events.addEventListener("error", () => { $("state").textContent = "connection lost, reconnecting …"; });
}

$("find").addEventListener("input", () => drawGenomes(shown.sheets[$("generation").value]));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(shown, Number($("generation").value)));
if (embedded) {
  const data = JSON.parse(embedded.textContent);
  $("generation").addEventListener("change", () => show(data, Number($("generation").value)));
  show(data, data.shown);
} else {
  live();
}
