"use strict";
// Asks for the runs' state and draws it. Names and messages come from files: they are only ever set as text.

const LEAST_MS = 2000, PATIENCE_MS = 10000, ROWS = 40, LISTED = 200, STRIP = 9, LABELS = 74;
const COLOURS = {done: "var(--done)", failed: "var(--failed)", touched: "var(--touched)", none: "var(--none)"};
const drawn = new Map();

const node = (tag, text = "", name = "") => {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = name;
  return made;
};
const stageOf = name => name.split("-")[0];

const span = seconds => {
  for (const [length, unit] of [[86400, "days"], [3600, "h"], [60, "min"]])
    if (seconds >= 2 * length) return `${(seconds / length).toFixed(1)} ${unit}`;
  return `${seconds.toFixed(0)} s`;
};

const endOf = seconds => {
  const end = new Date(Date.now() + 1000 * seconds), time = {hour: "2-digit", minute: "2-digit"};
  return end.toLocaleString([], seconds < 64800 ? time : {weekday: "short", ...time});
};

const begun = utc => {
  const time = new Date(utc);
  return isNaN(time) ? utc : time.toLocaleString([], {dateStyle: "medium", timeStyle: "short"});
};

// What each stage of a tomogram is: done, failed, touched (before a failure), none, or the share that is done.
const cellsOf = (tomogram, order) => {
  if (tomogram.state === "complete") return order.map(() => "done");
  if (tomogram.state === "failed") {
    const at = Math.max(order.indexOf(stageOf(tomogram.failure.stage)), 0);
    return order.map((_, n) => n < at ? "touched" : n === at ? "failed" : "none");
  }
  const units = tomogram.units || {}, last = order.findLastIndex(stage => stage in units);
  return order.map((stage, n) => {
    if (!(stage in units)) return "none";
    const [done, planned] = units[stage];
    return n < last && done >= planned ? "done" : done / Math.max(planned, 1);
  });
};

const saying = tomogram => {
  if (tomogram.state === "failed")
    return `${tomogram.id}: failed in ${tomogram.failure.stage} (${tomogram.failure.class}): ${tomogram.failure.message}`;
  const units = Object.entries(tomogram.units || {}).map(([stage, [done, planned]]) => `${stage} ${done} of ${planned}`);
  return `${tomogram.id}: ${tomogram.state}${units.length ? "; " + units.join(", ") : ""}`;
};

const drawHead = (part, run) => {
  const counts = run.counts, total = run.tomograms.length;
  part.querySelector("h1").textContent = run.folder;
  part.querySelector(".facts").textContent =
    `${run.state} · cryoscale ${run.cryoscale} · up to ${run.until} · started ${begun(run.started_utc)}`;
  const rate = run.rate_per_hour, left = run.seconds_left;
  const tiles = [
    [`${counts.complete} of ${total}`, "complete", ""], [counts["under way"], "under way", ""],
    [counts.failed, "failed", counts.failed ? "failed" : ""], [counts.waiting + counts.stopped, "waiting", ""],
    [rate ? Number(rate.toPrecision(2)).toLocaleString() : "–", "tomograms an hour", ""],
    [left === null ? "–" : span(left), left === null ? "left" : `left, until ${endOf(left)}`, ""],
  ];
  part.querySelector(".tiles").replaceChildren(...tiles.map(([value, what, name]) => {
    const tile = node("div", "", `tile ${name}`);
    tile.append(node("b", value), node("span", what));
    if (name) tile.addEventListener("click", () => part.querySelector(".failures").scrollIntoView());
    return tile;
  }));
  const bar = part.querySelector(".bar");
  bar.setAttribute("aria-label", `${counts.complete} of ${total} complete, ${counts.failed} failed`);
  bar.replaceChildren(...[["complete", "complete"], ["failed", "failed"], ["under way", "going"]].map(([state, name]) => {
    const piece = node("i", "", name);
    piece.style.width = `${100 * counts[state] / Math.max(total, 1)}%`;
    return piece;
  }));
};

const rowOf = cells => {
  const row = node("tr");
  row.append(...cells.map(text => node("td", text)));
  return row;
};

const drawTables = (part, run) => {
  part.querySelector(".stages tbody").replaceChildren(...run.order.map(stage => {
    const row = run.stages[stage] || {tomograms: run.counts.complete, units: [0, 0], running: 0, mean_core_seconds: null};
    const [done, planned] = row.units, seconds = row.mean_core_seconds;
    return rowOf([stage, row.tomograms, planned ? `${done} of ${planned}` : "", row.running || "",
      seconds === null ? "" : seconds.toFixed(1)]);
  }));
  const failed = run.tomograms.filter(tomogram => tomogram.state === "failed");
  part.querySelector(".failures").hidden = !failed.length;
  part.querySelector(".failures tbody").replaceChildren(...failed.slice(0, LISTED).map(({id, failure}) =>
    rowOf([id, failure.stage, failure.class, failure.message])));
  part.querySelector(".more").textContent =
    failed.length > LISTED ? `and ${failed.length - LISTED} more: failures.csv has them all` : "";
};

// Few tomograms: a row each.
const rows = run => {
  const table = node("table", "", "rows"), head = node("tr"), top = node("thead"), body = node("tbody");
  head.append(...["", ...run.order].map(text => node("th", text)));
  top.append(head);
  body.append(...run.tomograms.map(({id}) => {
    const row = node("tr");
    row.dataset.id = id;
    row.append(node("th", id));
    return row;
  }));
  table.append(top, body);
  return [table];
};

const fillRow = (row, tomogram, order) => {
  row.className = tomogram.state === "failed" ? "failed" : "";
  row.replaceChildren(row.firstElementChild, ...cellsOf(tomogram, order).map((cell, n) => {
    const share = typeof cell === "number", units = (tomogram.units || {})[order[n]], data = node("td");
    const text = share ? `${units[0]} of ${units[1]}` : cell === "failed" ? "failed" : "";
    data.append(node("span", text, share ? "going" : cell));
    return data;
  }));
};

// Many: a narrow column each, its stages from top to bottom, as many side by side as there is room for.
const bands = (run, width) => {
  const many = Math.max(Math.floor((width - LABELS) / STRIP), 10), made = [];
  for (let first = 0; first < run.tomograms.length; first += many) {
    const here = run.tomograms.slice(first, first + many), band = node("div", "", "band"), labels = node("div");
    const names = node("div", "", "names");
    names.style.width = `${here.length * STRIP}px`;
    names.append(node("span", here[0].id), node("span", here.length > 12 ? here.at(-1).id : ""));
    labels.append(...run.order.map(stage => node("span", stage)));
    band.append(labels, ...here.map(({id}) => {
      const strip = node("i", "", "strip");
      strip.style.height = `${run.order.length * STRIP}px`;
      strip.dataset.id = id;
      return strip;
    }));
    made.push(names, band);
  }
  return made;
};

const fillStrip = (strip, tomogram, order) => {
  const parts = cellsOf(tomogram, order).map((cell, n) => {
    const from = n * STRIP, to = from + STRIP - 1;
    return `${COLOURS[cell] || "var(--going)"} ${from}px ${to}px, transparent ${to}px ${to + 1}px`;
  });
  strip.style.background = `linear-gradient(to bottom, ${parts.join(", ")})`;
};

const find = part => {
  const grid = part.querySelector(".grid"), text = part.querySelector("input").value.trim().toLowerCase();
  const found = [];
  grid.classList.toggle("dim", text !== "");
  for (const one of grid.querySelectorAll("[data-id]")) {
    const fits = text !== "" && one.dataset.id.toLowerCase().includes(text);
    one.classList.toggle("found", fits);
    if (fits) found.push(one.title);
  }
  part.querySelector("output").textContent = text === "" ? "" : found.length === 1 ? found[0] : `${found.length} found`;
};

// Only what has changed is drawn again: of thousands of tomograms few are under way.
const drawGrid = part => {
  const {run} = drawn.get(part), grid = part.querySelector(".grid"), width = part.clientWidth;
  const few = run.tomograms.length <= ROWS, fill = few ? fillRow : fillStrip;
  const layout = JSON.stringify([width, run.order, run.tomograms.map(one => one.id)]);
  if (part.layout !== layout) {
    Object.assign(part, {layout, said: []});
    grid.replaceChildren(...(few ? rows(run) : bands(run, width)));
    part.marks = [...grid.querySelectorAll("[data-id]")];
  }
  for (const [n, tomogram] of run.tomograms.entries()) {
    const said = JSON.stringify(tomogram), mark = part.marks[n];
    if (part.said[n] === said) continue;
    part.said[n] = said;
    mark.title = saying(tomogram);
    mark.dataset.state = tomogram.state;
    fill(mark, tomogram, run.order);
  }
  find(part);
};

const draw = runs => {
  const home = document.getElementById("runs"), parts = [...home.querySelectorAll(".run")];
  document.getElementById("none").hidden = runs.length > 0;
  while (parts.length > runs.length) {
    const part = parts.pop();
    drawn.delete(part);
    part.remove();
  }
  for (const [n, run] of runs.entries()) {
    let part = parts[n];
    if (!part) {
      home.append(document.getElementById("run").content.cloneNode(true));
      part = home.lastElementChild;
      part.querySelector("input").addEventListener("input", () => find(part));
    }
    drawn.set(part, {run});
    drawHead(part, run);
    drawTables(part, run);
    drawGrid(part);
  }
};

const ask = async () => {
  const began = performance.now(), silence = document.getElementById("silence");
  try {
    const answer = await fetch("cryoscale/status.json", {cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS)});
    if (!answer.ok) throw new Error(answer.status);
    draw((await answer.json()).runs);
    silence.textContent = "";
  } catch {
    silence.textContent ||= `no answer since ${endOf(0)}: the run may have ended; "cryoscale status DIR" tells`;
  }
  setTimeout(ask, Math.max(LEAST_MS, 20 * (performance.now() - began)));
};

addEventListener("resize", () => [...drawn.keys()].forEach(drawGrid));
ask();
