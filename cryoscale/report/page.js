"use strict";
// The page's own script: tables that sort and filter, slices to look through, surfaces to turn. It loads nothing.
// Without it the page is complete but still: every element that needs it is hidden until it runs.

const PALETTE = ["0072b2", "e69f00", "009e73", "cc79a7", "56b4e9", "d55e00", "f0e442", "744cd6"].map(rgb);
const SEEN = rgb("0072b2"), INFERRED = rgb("e69f00"), PALE = rgb("e2e5e9");
const INWARD_TO_OUTWARD = ["2166ac", "67a9cf", "f1f1ee", "ef8a62", "b2182b"].map(rgb);
const VIRIDIS = ["440154", "414487", "2a788e", "22a884", "7ad151", "fde725"].map(rgb);

function rgb(hex) {
  return [0, 2, 4].map(at => parseInt(hex.slice(at, at + 2), 16));
}

function mix(from, to, share) {
  return from.map((value, part) => value + (to[part] - value) * share);
}

function onRamp(stops, share) {
  const place = share * (stops.length - 1), step = Math.min(stops.length - 2, place | 0);
  return mix(stops[step], stops[step + 1], place - step);
}

// ---- Tables: a click on a head sorts, words in the box filter, "area > 5000" compares a column.

function valueOf(cell) {
  if (cell.dataset.v !== undefined) return parseFloat(cell.dataset.v);
  const text = cell.textContent.trim().replace(/[\u202f\u00a0]/g, "").replace("\u2212", "-");
  return /^[-+]?[\d.]+(e[-+]?\d+)?$/i.test(text) ? parseFloat(text) : NaN;
}

function sortBy(table, column, downwards) {
  const body = table.tBodies[0], sign = downwards ? -1 : 1;
  const keyed = [...body.rows].map(row => [valueOf(row.cells[column]), row.cells[column].textContent.trim(), row]);
  keyed.sort(([a, textA], [b, textB]) => {
    if (isNaN(a) !== isNaN(b)) return isNaN(a) ? 1 : -1;  // what has no value comes last, either way
    return sign * (isNaN(a) ? textA.localeCompare(textB, "en", {numeric: true}) : a - b);
  });
  body.append(...keyed.map(entry => entry[2]));
  [...table.tHead.rows[0].cells].forEach((head, n) =>
    n === column ? head.setAttribute("aria-sort", downwards ? "descending" : "ascending")
                 : head.removeAttribute("aria-sort"));
}

function testOf(table, text) {
  const heads = [...table.tHead.rows[0].cells].map(head => head.textContent.toLowerCase());
  const found = /^(.*?)\s*(>=|<=|>|<|=)\s*(-?[\d.]+)\s*$/.exec(text);
  const column = found ? heads.findIndex(head => head.includes(found[1].trim())) : -1;
  if (column < 0) return row => row.textContent.toLowerCase().includes(text);
  const limit = parseFloat(found[3]);
  const compare = {">": v => v > limit, "<": v => v < limit, "=": v => v === limit, ">=": v => v >= limit,
                   "<=": v => v <= limit}[found[2]];
  return row => compare(valueOf(row.cells[column]));
}

function startTable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.tabIndex = 0;
    const turn = () => sortBy(table, column, head.getAttribute("aria-sort") === "ascending");
    head.addEventListener("click", turn);
    head.addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); turn(); }
    });
  });
  const box = [...document.querySelectorAll("[data-filters]")].find(part => part.dataset.filters === table.id);
  if (!box) return;
  box.hidden = false;
  const input = box.querySelector("input"), shown = box.querySelector("output");
  input.addEventListener("input", () => {
    const test = testOf(table, input.value.trim().toLowerCase()), rows = [...table.tBodies[0].rows];
    rows.forEach(row => { row.hidden = !test(row); });
    const left = rows.filter(row => !row.hidden).length;
    shown.textContent = input.value.trim() ? `${left} of ${rows.length}` : "";
  });
}

// ---- Slices: one picture holds all slices of an axis, one above the other; the slider says which is drawn.

function picture(source) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = failed;
    image.src = source;
  });
}

async function startSlices(figure) {
  const facts = figure.dataset, canvas = figure.querySelector("canvas"), slider = figure.querySelector("input");
  const output = figure.querySelector("output"), pen = canvas.getContext("2d");
  const positions = facts.positions.split(" ").map(Number), rows = canvas.height, columns = canvas.width;
  const grey = facts.grey ? await picture(facts.grey) : null, labels = await picture(facts.labels);
  const over = figure.closest(".looking").querySelector(".over");
  const draw = () => {
    const n = Number(slider.value);
    pen.fillStyle = "#1e1e1e";
    pen.fillRect(0, 0, columns, rows);
    for (const layer of [grey, over.checked || !grey ? labels : null])
      if (layer) pen.drawImage(layer, 0, n * rows, columns, rows, 0, 0, columns, rows);
    output.textContent = `${positions[n].toFixed(0)} nm`;
    figure.dataset.drawn = n;
  };
  slider.addEventListener("input", draw);
  over.addEventListener("change", draw);
  draw();
}

// ---- Surfaces: columns of numbers, inflated by the browser, drawn with WebGL, turned by dragging.

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

async function readScene(text, facts) {
  const buffer = await inflate(text), n = facts.vertices, corners = 3 * facts.faces, p = facts.proteins;
  let at = 0;
  const words = count => new Uint16Array(buffer, (at += 2 * count) - 2 * count, count);
  const bytes = count => new Uint8Array(buffer, (at += count) - count, count);
  const summed = column => { for (let i = 1; i < column.length; i++) column[i] += column[i - 1]; return column; };
  const metric = (column, axis) => Float32Array.from(
    column, v => facts.low[axis] + (facts.high[axis] - facts.low[axis]) * v / 65535 - facts.box[axis] / 2);
  const together = axes => Float32Array.from({length: 3 * axes[0].length}, (_, i) => axes[i % 3][Math.floor(i / 3)]);
  const points = together([0, 1, 2].map(axis => metric(summed(words(n)), axis)));
  const faces = summed(words(corners));
  const proteins = together([0, 1, 2].map(axis => metric(words(p), axis)));
  const [inferred, sd] = [bytes(n), bytes(n)], bend = facts.curvature_top_per_nm ? bytes(n) : null;
  return {points, faces, proteins, inferred, sd, bend, normals: normalsOf(points, faces)};
}

function normalsOf(points, faces) {
  const normals = new Float32Array(points.length);
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [faces[f], faces[f + 1], faces[f + 2]].map(v => 3 * v);
    const u = [0, 1, 2].map(k => points[b + k] - points[a + k]), v = [0, 1, 2].map(k => points[c + k] - points[a + k]);
    const cross = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) normals[corner + k] += cross[k];
  }
  return normals;
}

function coloursOf(scene, facts, mode) {
  const colours = new Uint8Array(3 * facts.vertices);
  let v = 0;
  for (const [number, vertices] of facts.membranes) {
    const own = PALETTE[(number - 1) % PALETTE.length], pale = mix(own, PALE, 0.62);
    for (const end = v + vertices; v < end; v++) {
      const inferred = scene.inferred[v] > 127;
      const colour = mode === "sd" ? onRamp(VIRIDIS, scene.sd[v] / 255)
        : mode === "curvature" ? onRamp(INWARD_TO_OUTWARD, (scene.bend[v] - 1) / 254)
        : mode === "seen" ? (inferred ? INFERRED : SEEN) : inferred ? pale : own;
      colours.set(colour, 3 * v);
    }
  }
  return colours;
}

function boxLines(box) {
  const corners = [...Array(8).keys()].map(n => box.map((edge, k) => (n >> k & 1 ? 0.5 : -0.5) * edge)), lines = [];
  for (let a = 0; a < 8; a++) for (const bit of [1, 2, 4]) if (!(a & bit)) lines.push(...corners[a], ...corners[a | bit]);
  return new Float32Array(lines);
}

const VERTEX = `attribute vec3 point, normal, colour; uniform vec3 right, up, towards; uniform vec2 scale;
uniform float depth; varying vec3 n, c;
void main() {
  n = vec3(dot(normal, right), dot(normal, up), dot(normal, towards)); c = colour;
  gl_Position = vec4(dot(point, right) * scale.x, dot(point, up) * scale.y, -dot(point, towards) * depth, 1.0);
  gl_PointSize = 6.0;
}`;
const FRAGMENT = `precision mediump float; varying vec3 n, c; uniform float lit;
void main() {
  vec3 m = normalize(n); if (m.z < 0.0) m = -m;
  float light = 0.5 + 0.44 * max(0.0, dot(m, vec3(-0.45, 0.65, 0.61))) + 0.16 * m.z;
  float gloss = 0.16 * pow(max(0.0, dot(m, vec3(-0.26, 0.38, 0.89))), 24.0);
  gl_FragColor = vec4(lit > 0.5 ? c * light + gloss : c, 1.0);
}`;

function programOf(gl) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  return program;
}

class Viewer {
  constructor(figure) {
    this.figure = figure;
    this.canvas = figure.querySelector("canvas");
    this.facts = JSON.parse(figure.dataset.facts);
    this.home();
    this.listen();
  }

  home() { this.azimuth = 32; this.elevation = 26; this.zoom = 1; }

  async start() {
    if (this.gl) return;
    const gl = this.gl = this.canvas.getContext("webgl", {antialias: true, preserveDrawingBuffer: true});
    if (!gl) return;
    this.scene ||= await readScene(this.figure.dataset.scene, this.facts);
    this.program = programOf(gl);
    const {points, normals, faces, proteins} = this.scene, box = boxLines(this.facts.box);
    this.buffers = {points: this.fill(points), normals: this.fill(normals), faces: this.fill(faces, true),
                    proteins: this.fill(proteins), box: this.fill(box), colours: gl.createBuffer()};
    gl.enable(gl.DEPTH_TEST);
    this.paint();
    this.figure.classList.add("live");
  }

  fill(values, isFaces = false) {
    const gl = this.gl, kind = isFaces ? gl.ELEMENT_ARRAY_BUFFER : gl.ARRAY_BUFFER, buffer = gl.createBuffer();
    gl.bindBuffer(kind, buffer);
    gl.bufferData(kind, values, gl.STATIC_DRAW);
    return buffer;
  }

  paint() {
    if (!this.gl || !this.scene) return;
    const gl = this.gl, mode = this.figure.querySelector("select").value;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.colours);
    gl.bufferData(gl.ARRAY_BUFFER, coloursOf(this.scene, this.facts, mode), gl.STATIC_DRAW);
    this.figure.querySelectorAll("[data-legend]").forEach(part => { part.hidden = part.dataset.legend !== mode; });
    this.draw();
  }

  attribute(name, buffer, type, normalised) {
    const gl = this.gl, place = gl.getAttribLocation(this.program, name);
    if (!buffer) { gl.disableVertexAttribArray(place); return place; }
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, 3, type, normalised, 0, 0);
    return place;
  }

  draw() {
    if (!this.gl || !this.scene) return;
    const gl = this.gl, set = name => gl.getUniformLocation(this.program, name), rad = Math.PI / 180;
    const a = this.azimuth * rad, e = this.elevation * rad, {width, height} = this.canvas;
    const right = [Math.cos(a), Math.sin(a), 0];
    const up = [-Math.sin(e) * Math.sin(a), Math.sin(e) * Math.cos(a), Math.cos(e)];
    const towards = [Math.cos(e) * Math.sin(a), -Math.cos(e) * Math.cos(a), Math.sin(e)];
    const span = Math.hypot(...this.facts.box), flat = Math.hypot(this.facts.box[0], this.facts.box[1]);
    const fit = Math.min(width / flat, height / (0.5 * flat + 0.95 * this.facts.box[2])) * 1.9 * this.zoom;
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniform3fv(set("right"), right);
    gl.uniform3fv(set("up"), up);
    gl.uniform3fv(set("towards"), towards);
    gl.uniform2f(set("scale"), fit / width, fit / height);
    gl.uniform1f(set("depth"), 1.8 / span);
    gl.uniform1f(set("lit"), 1);
    this.attribute("point", this.buffers.points, gl.FLOAT, false);
    this.attribute("normal", this.buffers.normals, gl.FLOAT, false);
    const colour = this.attribute("colour", this.buffers.colours, gl.UNSIGNED_BYTE, true);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers.faces);
    gl.drawElements(gl.TRIANGLES, this.scene.faces.length, gl.UNSIGNED_SHORT, 0);
    gl.uniform1f(set("lit"), 0);
    this.attribute("normal", null);
    this.attribute("colour", null);
    gl.vertexAttrib3f(colour, 0.55, 0.57, 0.6);
    this.attribute("point", this.buffers.box, gl.FLOAT, false);
    gl.drawArrays(gl.LINES, 0, 24);
    if (this.facts.proteins && this.figure.querySelector(".proteins").checked) {
      gl.vertexAttrib3f(colour, 0.8, 0.1, 0.35);
      this.attribute("point", this.buffers.proteins, gl.FLOAT, false);
      gl.drawArrays(gl.POINTS, 0, this.facts.proteins);
    }
    this.figure.dataset.view = `${this.azimuth.toFixed(1)} ${this.elevation.toFixed(1)} ${this.zoom.toFixed(2)}`;
  }

  turn(across, down) {
    this.azimuth = (this.azimuth - across) % 360;
    this.elevation = Math.max(-90, Math.min(90, this.elevation + down));
    this.draw();
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", event => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", event => {
      if (event.buttons) this.turn(event.movementX / 2.5, event.movementY / 2.5);
    });
    canvas.addEventListener("wheel", event => {
      if (!event.ctrlKey && document.activeElement !== canvas) return;  // else the page would not scroll past it
      event.preventDefault();
      this.zoom = Math.max(0.5, Math.min(12, this.zoom * Math.exp(-event.deltaY / 500)));
      this.draw();
    }, {passive: false});
    canvas.addEventListener("keydown", event => {
      const step = {ArrowLeft: [8, 0], ArrowRight: [-8, 0], ArrowUp: [0, 8], ArrowDown: [0, -8]}[event.key];
      if (step) this.turn(...step);
      else if (event.key === "+" || event.key === "-") { this.zoom *= event.key === "+" ? 1.2 : 1 / 1.2; this.draw(); }
      else if (event.key === "Home") { this.home(); this.draw(); }
      else return;
      event.preventDefault();
    });
    canvas.addEventListener("dblclick", () => { this.home(); this.draw(); });
    this.figure.querySelector("select").addEventListener("change", () => this.paint());
    this.figure.querySelector(".proteins")?.addEventListener("change", () => this.draw());
  }
}

// ---- Start: tables at once, pictures when they come into sight. Browsers keep few WebGL contexts: the oldest goes first.

const MOST_LIVE = 8, live = [];

function startViewer(viewer) {
  viewer.start().catch(() => viewer.figure.classList.remove("live"));
  if (live.includes(viewer)) return;
  live.push(viewer);
  if (live.length > MOST_LIVE) {
    const oldest = live.shift(), fresh = oldest.canvas.cloneNode();
    oldest.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    oldest.figure.classList.remove("live");
    oldest.canvas.replaceWith(fresh);
    Object.assign(oldest, {gl: null, canvas: fresh});
    oldest.listen();
  }
}

document.querySelectorAll("table[id]").forEach(startTable);
const starts = new Map();
const watcher = new IntersectionObserver(entries => entries.forEach(entry => {
  if (entry.isIntersecting) starts.get(entry.target)();
}), {rootMargin: "200px"});
document.querySelectorAll("figure[data-scene]").forEach(figure => {
  const viewer = new Viewer(figure);
  starts.set(figure, () => startViewer(viewer));
  watcher.observe(figure);
});
document.querySelectorAll(".looking").forEach(part => {
  part.hidden = false;
  part.querySelectorAll("figure").forEach(figure => {
    starts.set(figure, () => { starts.set(figure, () => {}); startSlices(figure); });
    watcher.observe(figure);
  });
});
