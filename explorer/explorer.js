// The latent explorer: a map of the latent plane, and a VAE's decoder that runs in the page.
// The notebook's widget (anywidget) calls render, the saved page calls mount. No imports, no requests, no kernel.

const SMALL_STEP = 0.05; // of an arrow key
const LARGE_STEP = 0.5; // of an arrow key with Shift
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const WALK = 4000; // milliseconds from A to B
const STOPS = 8; // of a walk for readers who asked for less motion
const NEIGHBOURS = 5; // that vote on the nearest class
const SYNC_AFTER = 100; // milliseconds of rest before Python learns where the point is
const SPEAK_AFTER = 400; // milliseconds of rest before a screen reader does

const BODY = `
<style>
  :host { display: block; width: 100%; container-type: inline-size; contain: layout style; }
  .explorer {
    --ink: var(--jp-ui-font-color0, var(--vscode-editor-foreground, #16181d));
    --paper: var(--jp-layout-color0, var(--vscode-editor-background, #fff));
    --accent: #1d63ad;
    display: grid; gap: 16px; max-width: 1080px; margin: auto; padding: 4px; box-sizing: border-box;
    grid: "garment readout" "map map" "sliders sliders" "buttons buttons" / minmax(0, 44%) minmax(0, 1fr);
    color: var(--ink); font: 15px/1.4 system-ui, sans-serif; font-variant-numeric: tabular-nums;
    color-scheme: light; text-align: left;
  }
  .explorer[data-theme="dark"] {
    --ink: var(--jp-ui-font-color0, var(--vscode-editor-foreground, #f0f2f5));
    --paper: var(--jp-layout-color0, var(--vscode-editor-background, #14161a));
    --accent: #7cb8f5;
    color-scheme: dark;
  }
  .explorer { --quiet: color-mix(in srgb, var(--ink) 75%, var(--paper));
              --line: color-mix(in srgb, var(--ink) 28%, var(--paper)); }
  *, ::before, ::after { box-sizing: border-box; }
  canvas { display: block; width: 100%; aspect-ratio: 1; border: 1px solid var(--line); border-radius: 10px; }
  .map { grid-area: map; color: var(--ink); background: var(--paper); touch-action: none; cursor: crosshair; }
  .garment { grid-area: garment; image-rendering: pixelated; background: #fff; }
  .readout { grid-area: readout; margin: 0; display: grid; gap: 8px; align-content: space-evenly; }
  dt { color: var(--quiet); font-size: 13px; }
  dd { margin: 0; font-weight: 600; min-height: 2.8em; }
  .position { min-height: 1.4em; white-space: nowrap; }
  .sliders, .buttons { display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; }
  .sliders { grid-area: sliders; }
  .buttons { grid-area: buttons; gap: 8px; }
  label { display: flex; gap: 10px; align-items: center; flex: 1 1 240px; }
  input { flex: 1; min-width: 0; height: 28px; margin: 0; accent-color: var(--accent); cursor: pointer; }
  button {
    font: inherit; color: inherit; background: transparent; border: 1px solid var(--quiet); border-radius: 8px;
    min-height: 38px; padding: 0 14px; cursor: pointer;
  }
  button:hover { background: color-mix(in srgb, var(--ink) 8%, transparent); }
  .surprise { background: var(--ink); color: var(--paper); border-color: var(--ink); }
  .surprise:hover { background: var(--quiet); }
  .play { min-width: 8.2em; }
  .hint { color: var(--quiet); font-size: 13px; flex: 1 1 100%; margin: 0; }
  :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
  .spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  @container (min-width: 600px) {
    .explorer { gap: 16px 24px; font-size: 16px;
      grid: "map garment" "readout readout" "sliders sliders" "buttons buttons" / minmax(0, 1fr) minmax(0, 1fr); }
    .readout { grid: auto / 9fr 11fr 50%; column-gap: 12px; }
    .readout > :last-child { padding-left: 12px; }
    .readout dd { min-height: 0; font-size: clamp(13px, 2.1cqw, 18px); white-space: nowrap; }
    .sliders { gap: 24px; }
    .hint { flex: 1; text-align: right; }
  }
</style>
<div class="explorer" role="group" aria-label="Latent explorer">
  <canvas class="map" tabindex="0" role="application" aria-label="Map of the latent plane. Arrow keys move the point,
    with Shift in larger steps."></canvas>
  <canvas class="garment" width="28" height="28" role="img" aria-label="Decoded garment"></canvas>
  <dl class="readout">
    <div><dt>Point z</dt><dd class="position"></dd></div>
    <div><dt>Nearest class</dt><dd class="nearest"></dd></div>
    <div><dt>Under the prior N(0, I)</dt><dd class="prior"></dd></div>
  </dl>
  <div class="sliders">
    <label>z₁ <input type="range" step="0.01"></label>
    <label>z₂ <input type="range" step="0.01"></label>
  </div>
  <div class="buttons">
    <button type="button" class="surprise">Surprise me</button>
    <button type="button" class="set-a">Set A here</button>
    <button type="button" class="set-b">Set B here</button>
    <button type="button" class="play"></button>
    <p class="hint">Drag, click, or use the arrow keys (Shift: larger steps).</p>
  </div>
  <p class="spoken" role="status"></p>
</div>`;

// What the page is given.

const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

function halves(base64) {
  // Float16Array is too new to rely on.
  const data = new DataView(bytes(base64).buffer);
  return Float32Array.from({ length: data.byteLength / 2 }, (_, i) => {
    const half = data.getUint16(2 * i, true);
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    return half & 0x8000 ? -size : size;
  });
}

// Linear layers with SiLU between them, as torch keeps them: each weight (out, in) in rows, then its bias.
function makeDecoder(sizes, weights) {
  let at = 0;
  const take = (count) => weights.subarray(at, (at += count));
  const layers = sizes.slice(1).map((n, i) => {
    return { weight: take(n * sizes[i]), bias: take(n), out: new Float32Array(n) };
  });
  return (z) => {
    let h = z;
    for (const { weight, bias, out } of layers) {
      const n = h.length;
      for (let j = 0, k = 0; j < out.length; j++) {
        let sum = bias[j];
        for (let i = 0; i < n; i++) sum += weight[k++] * h[i];
        out[j] = sum;
      }
      if (out !== layers.at(-1).out) for (let j = 0; j < out.length; j++) out[j] /= 1 + Math.exp(-out[j]);
      h = out;
    }
    return h; // logits
  };
}

function readData(model) {
  return {
    limit: model.get("limit"),
    classes: model.get("classes"),
    colors: model.get("colors"),
    codes: halves(model.get("codes")),
    labels: bytes(model.get("labels")),
    decode: makeDecoder(model.get("sizes"), halves(model.get("weights"))),
  };
}

// The cloud of codes.

function median(values) {
  return values.sort((a, b) => a - b)[(values.length - 1) >> 1]; // as torch.median
}

function mediansOf({ codes, labels, classes }) {
  const present = [...new Set(labels)].sort((a, b) => a - b);
  return present.map((label) => {
    const own = [...labels.keys()].filter((i) => labels[i] === label);
    return { name: classes[label], point: [0, 1].map((axis) => median(own.map((i) => codes[2 * i + axis]))) };
  });
}

function nearest(z, { codes, labels, classes }) {
  const best = [];
  for (let i = 0; i < labels.length; i++) {
    const distance = (codes[2 * i] - z[0]) ** 2 + (codes[2 * i + 1] - z[1]) ** 2;
    if (best.length === NEIGHBOURS && distance >= best.at(-1).distance) continue;
    if (best.length === NEIGHBOURS) best.pop();
    best.push({ distance, label: labels[i] });
    best.sort((p, q) => p.distance - q.distance);
  }
  const votes = new Map(); // keeps the order: of two classes with as many votes the nearer one wins
  for (const { label } of best) votes.set(label, (votes.get(label) ?? 0) + 1);
  const [label, most] = [...votes].reduce((first, next) => (next[1] > first[1] ? next : first));
  return `${classes[label]}, ${most} of ${best.length}`;
}

function describe(z, data) {
  const number = (value) => value.toFixed(2).replace("-", "−");
  const share = Math.exp(-(z[0] ** 2 + z[1] ** 2) / 2);
  const percent = share >= 0.1 ? Math.round(100 * share) : share >= 0.001 ? (100 * share).toFixed(1) : "fewer than 0.1";
  return {
    position: `(${number(z[0])}, ${number(z[1])})`,
    nearest: nearest(z, data),
    prior: `${percent} % of draws fall farther out`,
  };
}

// The point.

const inside = (limit, point) => point.map((value) => Math.max(-limit, Math.min(limit, value)));

// What the parts share: the point z, which the model keeps, and the ends a and b of the walk.
function makeState(model, limit, changed) {
  let syncing = 0;
  const follow = () => {
    state.moved = true;
    changed();
  };
  const state = {
    a: [-limit / 2, (3 * limit) / 8], // a first walk, across the plane
    b: [limit / 2, (-3 * limit) / 8],
    moved: false,
    get z() {
      return inside(limit, model.get("z"));
    },
    put(z) {
      model.set("z", inside(limit, z).map((value) => Math.round(value * 1000) / 1000));
      changed();
      clearTimeout(syncing);
      syncing = setTimeout(() => model.save_changes(), SYNC_AFTER);
    },
    mark(end) {
      state[end] = state.z;
      changed();
    },
    sync() {
      clearTimeout(syncing);
      model.save_changes();
    },
    release() {
      clearTimeout(syncing);
      model.off("change:z", follow);
    },
  };
  model.on("change:z", follow);
  return state;
}

// Draws in the next frame, however often it is asked to.
function makeFrame(draw) {
  let frame = 0;
  const run = () => {
    frame = 0;
    draw();
  };
  return { ask: () => (frame ||= requestAnimationFrame(run)), cancel: () => cancelAnimationFrame(frame) };
}

// The map: z₁ to the right, z₂ up, and layers from the lowest up. A layer is a function that paints with a brush: a
// context in CSS pixels, the size, limit, colours and font of the view, and place, which takes a point of the plane to
// its pixel. Every layer finds the context as the first one did.
function makeMap(canvas, limit, layers) {
  let view = { size: 0, scale: 1 };
  return {
    canvas,
    fits: () => canvas.clientWidth === view.size && devicePixelRatio === view.scale,
    fit() {
      view = lookAt(canvas, limit);
      canvas.width = canvas.height = Math.round(view.size * view.scale);
    },
    draw() {
      if (view.size) paint(canvas, view, layers);
    },
    pointAt({ clientX, clientY }) {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [clientX - box.left - 1, clientY - box.top - 1]; // less the border
      return [(2 * x * limit) / view.size - limit, limit - (2 * y * limit) / view.size];
    },
  };
}

function lookAt(canvas, limit) {
  const size = canvas.clientWidth; // in CSS pixels
  const { color, backgroundColor, borderTopColor, fontFamily } = getComputedStyle(canvas);
  const place = ([x, y]) => [((x + limit) / (2 * limit)) * size, ((limit - y) / (2 * limit)) * size];
  const look = { ink: color, paper: backgroundColor, line: borderTopColor, fontFamily };
  return { size, scale: devicePixelRatio, limit, place, ...look };
}

function paint(canvas, view, layers) {
  const context = canvas.getContext("2d");
  context.setTransform(view.scale, 0, 0, view.scale, 0, 0);
  context.lineJoin = "round";
  for (const layer of layers) {
    context.save();
    layer({ ...view, context, view });
    context.restore();
  }
}

// One layer of several that stand still: they are painted once for each size and theme.
function still(...layers) {
  const canvas = document.createElement("canvas");
  let painted;
  return ({ context, view }) => {
    if (painted !== view) {
      canvas.width = canvas.height = Math.round(view.size * view.scale);
      paint(canvas, view, layers);
      painted = view;
    }
    context.drawImage(canvas, 0, 0, view.size, view.size);
  };
}

function mapLayers(data, state) {
  const medians = mediansOf(data);
  return [
    still(paintAxes, (brush) => paintCloud(brush, data), paintScale),
    (brush) => paintWay(brush, state.a, state.b),
    still((brush) => paintNames(brush, medians)),
    (brush) => paintEnd(brush, "A", state.a),
    (brush) => paintEnd(brush, "B", state.b),
    (brush) => paintCross(brush, state.z),
  ];
}

function paintAxes({ context, size, limit, place, paper, line }) {
  const [x0, y0] = place([0, 0]);
  context.fillStyle = paper;
  context.fillRect(0, 0, size, size);
  context.beginPath();
  context.moveTo(0, y0);
  context.lineTo(size, y0);
  context.moveTo(x0, 0);
  context.lineTo(x0, size);
  stroke(context, 1, line);
  for (const radius of [1, 2, 3]) {
    context.beginPath();
    context.arc(x0, y0, (radius * size) / (2 * limit), 0, 2 * Math.PI);
    stroke(context, 1.5, line);
  }
}

function paintCloud({ context, size, place }, { codes, labels, colors }) {
  const radius = Math.max(1.1, Math.min(2.2, size / 270));
  context.globalAlpha = 0.75;
  for (let i = 0; i < labels.length; i++) {
    const [x, y] = place([codes[2 * i], codes[2 * i + 1]]);
    context.fillStyle = colors[labels[i]];
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  }
}

function paintScale(brush) {
  const { context, size, place } = brush;
  const small = Math.max(11, Math.min(14, size / 38));
  const [x0, y0] = place([0, 0]);
  context.textBaseline = "middle";
  context.textAlign = "center";
  for (const radius of [2, 3]) write(brush, `${radius}σ`, place([radius * 0.7071, -radius * 0.7071]), `${small}px`);
  context.textAlign = "right";
  write(brush, "z₁", [size - 8, y0 - small], `italic ${small + 2}px`);
  context.textAlign = "left";
  write(brush, "z₂", [x0 + 8, small + 2], `italic ${small + 2}px`);
}

function paintNames(brush, medians) {
  const { context, size, limit, place, fontFamily } = brush;
  const height = Math.max(11, Math.min(16, size / 33));
  const font = `600 ${height}px`;
  const taken = [];
  context.textBaseline = "middle";
  context.textAlign = "center";
  context.font = `${font} ${fontFamily}`;
  for (const { name, point } of [...medians].sort((p, q) => p.point[1] - q.point[1])) {
    let [x, y] = place(inside(limit, point));
    const half = context.measureText(name).width / 2 + 4;
    x = Math.max(half, Math.min(size - half, x));
    y = Math.max(height, Math.min(size - height, y));
    for (const other of taken) // from the lowest up: a name that would cover another one moves above it
      if (Math.abs(x - other.x) < half + other.half && y > other.y - 1.25 * height) y = other.y - 1.25 * height;
    taken.push({ x, y, half });
    write(brush, name, [x, y], font);
  }
}

function paintWay({ context, place, ink, paper }, a, b) {
  context.beginPath();
  context.moveTo(...place(a));
  context.lineTo(...place(b));
  stroke(context, 4, paper);
  context.setLineDash([6, 5]);
  stroke(context, 2, ink);
}

function paintEnd({ context, place, ink, paper, fontFamily }, name, point) {
  const [x, y] = place(point);
  context.beginPath();
  context.arc(x, y, 9, 0, 2 * Math.PI);
  context.fillStyle = ink;
  context.fill();
  stroke(context, 2, paper);
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = paper;
  context.font = `700 12px ${fontFamily}`;
  context.fillText(name, x, y + 1);
}

function paintCross({ context, place, ink, paper }, point) {
  const [x, y] = place(point);
  context.beginPath();
  context.arc(x, y, 10, 0, 2 * Math.PI);
  for (const [dx, dy] of Object.values(ARROWS)) {
    context.moveTo(x + 5 * dx, y + 5 * dy);
    context.lineTo(x + 16 * dx, y + 16 * dy);
  }
  stroke(context, 6, paper);
  stroke(context, 2.5, ink);
}

function stroke(context, width, color) {
  context.lineWidth = width;
  context.strokeStyle = color;
  context.stroke();
}

function write({ context, ink, paper, fontFamily }, text, [x, y], font) {
  context.font = `${font} ${fontFamily}`;
  context.strokeStyle = paper;
  context.lineWidth = 4;
  context.strokeText(text, x, y); // a halo: readable on any cloud
  context.fillStyle = ink;
  context.fillText(text, x, y);
}

// The garment, and the point in words.

function makeGarment(canvas) {
  const picture = new ImageData(28, 28);
  picture.data.fill(255);
  return {
    paint(logits) {
      for (let i = 0; i < 784; i++) {
        const grey = Math.round(255 / (1 + Math.exp(logits[i]))); // dark ink on white paper
        picture.data[4 * i] = picture.data[4 * i + 1] = picture.data[4 * i + 2] = grey;
      }
      canvas.getContext("2d").putImageData(picture, 0, 0);
    },
    label: (text) => (canvas.ariaLabel = text),
  };
}

function makeReadout($, garment, state) {
  let speaking = 0;
  const speak = ({ position, nearest, prior }) => {
    garment.label(`Decoded garment at z = ${position}, nearest class ${nearest}`);
    if (state.moved) $(".spoken").textContent = `z = ${position}. Nearest class ${nearest} codes. ${prior}.`;
  };
  return {
    show(text) {
      for (const [name, value] of Object.entries(text)) $(`.${name}`).textContent = value;
      clearTimeout(speaking);
      speaking = setTimeout(() => speak(text), SPEAK_AFTER);
    },
    release: () => clearTimeout(speaking),
  };
}

// Moving.

function makeWalker(button, state) {
  let walking = 0;
  const walker = {
    start(begin) {
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const step = (now) => {
        let way = Math.max(0, Math.min(1, (now - begin) / WALK));
        if (calm) way = Math.floor(way * STOPS) / STOPS;
        state.put([0, 1].map((axis) => state.a[axis] + way * (state.b[axis] - state.a[axis])));
        if (way < 1) walking = requestAnimationFrame(step);
        else walker.stop();
      };
      walking = requestAnimationFrame(step);
      button.textContent = "■ Stop";
    },
    stop() {
      cancelAnimationFrame(walking);
      walking = 0;
      button.textContent = "▶ Walk A to B";
    },
    toggle: () => (walking ? walker.stop() : walker.start(performance.now())),
  };
  walker.stop();
  return walker;
}

function makeSliders(inputs, limit, on, state, move) {
  inputs.forEach((input, axis) => {
    [input.min, input.max] = [-limit, limit];
    on(input, "input", () => move(state.z.map((value, i) => (i === axis ? +input.value : value))));
  });
  return { show: (z) => inputs.forEach((input, axis) => (input.value = z[axis])) };
}

const isCommand = (event) => event.ctrlKey || event.metaKey || event.altKey; // of the browser or the notebook

function listenToMap(on, map, state, move) {
  const { canvas } = map;
  const follow = (event) => move(map.pointAt(event));
  on(canvas, "pointerdown", (event) => {
    if (!event.isPrimary || event.button) return;
    canvas.setPointerCapture(event.pointerId);
    follow(event);
  });
  on(canvas, "pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && follow(event));
  on(canvas, "lostpointercapture", state.sync);
  on(canvas, "keydown", (event) => {
    const direction = ARROWS[event.key];
    if (!direction || isCommand(event)) return;
    event.preventDefault();
    const step = event.shiftKey ? LARGE_STEP : SMALL_STEP;
    move(state.z.map((value, axis) => value + step * direction[axis]));
  });
}

function listenToButtons(on, $, state, walker, move) {
  const mark = (end) => {
    walker.stop();
    state.mark(end);
  };
  on($(".surprise"), "click", () => {
    const radius = Math.sqrt(-2 * Math.log(1 - Math.random())); // Box and Muller
    const angle = 2 * Math.PI * Math.random();
    move([radius * Math.cos(angle), radius * Math.sin(angle)]);
  });
  on($(".set-a"), "click", () => mark("a"));
  on($(".set-b"), "click", () => mark("b"));
  on($(".play"), "click", walker.toggle);
}

// What changes around it.

// A notebook says which theme it has; only the page of its own follows the system.
function isDark(ownPage) {
  if (ownPage) return matchMedia("(prefers-color-scheme: dark)").matches;
  const { body, documentElement } = document;
  const vscode = /dark|contrast$/.test(body.dataset.vscodeThemeKind ?? "");
  return body.dataset.jpThemeLight === "false" || vscode || documentElement.getAttribute("theme") === "dark";
}

function watchSurroundings(on, map, refresh) {
  const resized = () => map.fits() || refresh();
  const shown = new ResizeObserver(resized);
  const themed = new MutationObserver(refresh);
  for (const element of [document.documentElement, document.body])
    themed.observe(element, { attributeFilter: ["class", "theme", "data-jp-theme-light", "data-vscode-theme-kind"] });
  on(matchMedia("(prefers-color-scheme: dark)"), "change", refresh);
  on(window, "resize", resized);
  shown.observe(map.canvas);
  return [shown, themed];
}

// The whole.

function makeHost(el) {
  const host = el.appendChild(document.createElement("div"));
  host.dataset.lmSuppressShortcuts = ""; // JupyterLab: arrow keys move the point, not the selected cell
  host.attachShadow({ mode: "open" }).innerHTML = BODY; // the notebook's style sheets stay outside
  return host;
}

function render({ model, el, ownPage = false }) {
  const host = makeHost(el);
  const root = host.shadowRoot;
  const $ = (selector) => root.querySelector(selector);
  const listening = new AbortController();
  const on = (target, name, listener) => target.addEventListener(name, listener, { signal: listening.signal });

  const data = readData(model);
  const frame = makeFrame(draw);
  const state = makeState(model, data.limit, frame.ask);
  const map = makeMap($(".map"), data.limit, mapLayers(data, state));
  const garment = makeGarment($(".garment"));
  const readout = makeReadout($, garment, state);
  const walker = makeWalker($(".play"), state);
  const sliders = makeSliders([...root.querySelectorAll("input")], data.limit, on, state, move);

  function move(z) {
    walker.stop();
    state.put(z);
  }

  function draw() {
    const { z } = state;
    garment.paint(data.decode(z));
    map.draw();
    sliders.show(z);
    readout.show(describe(z, data));
  }

  function refresh() {
    $(".explorer").dataset.theme = isDark(ownPage) ? "dark" : "light";
    if (!map.canvas.clientWidth) return; // not shown yet
    map.fit();
    frame.ask();
  }

  listenToMap(on, map, state, move);
  listenToButtons(on, $, state, walker, move);
  on(root, "keydown", (event) => {
    if (event.key === "Escape") walker.stop();
    if (!isCommand(event)) event.stopPropagation(); // classic Notebook's shortcuts
  });
  refresh();
  const observers = watchSurroundings(on, map, refresh);
  return () => {
    walker.stop();
    listening.abort();
    observers.forEach((observer) => observer.disconnect());
    [state, readout].forEach((part) => part.release());
    frame.cancel();
    host.remove();
  };
}

// Show the explorer on a page of its own: `state` holds what the widget's traits would.
function mount(el, state) {
  const listeners = new Set();
  const model = {
    get: (name) => state[name],
    set: (name, value) => ((state[name] = value), listeners.forEach((listener) => listener())),
    on: (_, listener) => listeners.add(listener),
    off: (_, listener) => listeners.delete(listener),
    save_changes() {},
  };
  return render({ model, el, ownPage: true });
}

export default { render, mount };
