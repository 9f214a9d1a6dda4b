// The latent explorer: a map of the latent plane, and a VAE's decoder that runs in the page.
// The notebook's widget (anywidget) calls render, the saved page calls mount. No imports, no requests, no kernel.

const SMALL_STEP = 0.05; // of an arrow key
const LARGE_STEP = 0.5; // of an arrow key with Shift
const WALK = 4000; // milliseconds from A to B
const STOPS = 8; // of a walk for readers who asked for less motion
const NEIGHBOURS = 5; // that vote on the nearest class
const SYNC_AFTER = 100; // milliseconds of rest before Python learns where the point is
const SPEAK_AFTER = 400; // milliseconds of rest before a screen reader does

const PAGE_STYLE = `
  :root { color-scheme: light dark; color: #16181d; background: #fff; font: 16px/1.5 system-ui, sans-serif; }
  @media (prefers-color-scheme: dark) { :root { color: #f0f2f5; background: #14161a; } }
  body { max-width: 1080px; margin: 0 auto; padding: clamp(8px, 2vw, 16px); }
  h1 { font-size: clamp(20px, 3vw, 30px); line-height: 1.2; margin: 0 4px 12px; }
  p { max-width: 76ch; margin: 16px 4px 0; }`;

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

function median(values) {
  return values.sort((a, b) => a - b)[(values.length - 1) >> 1]; // as torch.median
}

function words({ z, share, className, votes, voters }) {
  const number = (value) => value.toFixed(2).replace("-", "−");
  const percent = share >= 0.1 ? Math.round(100 * share) : share >= 0.001 ? (100 * share).toFixed(1) : "fewer than 0.1";
  return {
    position: `(${number(z[0])}, ${number(z[1])})`,
    nearest: `${className}, ${votes} of ${voters}`,
    prior: `${percent} % of draws fall farther out`,
  };
}

// A notebook says which theme it has; only the page of its own follows the system.
function isDark(ownPage) {
  if (ownPage) return matchMedia("(prefers-color-scheme: dark)").matches;
  const { body, documentElement } = document;
  const vscode = /dark|contrast$/.test(body.dataset.vscodeThemeKind ?? "");
  return body.dataset.jpThemeLight === "false" || vscode || documentElement.getAttribute("theme") === "dark";
}

function render({ model, el, ownPage = false }) {
  const host = el.appendChild(document.createElement("div"));
  host.dataset.lmSuppressShortcuts = ""; // JupyterLab: arrow keys move the point, not the selected cell
  const root = host.attachShadow({ mode: "open" }); // the notebook's style sheets stay outside
  root.innerHTML = BODY;
  const $ = (selector) => root.querySelector(selector);
  const [explorer, map, garment, spoken] = [".explorer", ".map", ".garment", ".spoken"].map($);
  const sliders = [...root.querySelectorAll("input")];
  const cleanup = new AbortController();
  const on = (target, names, listener) =>
    names.split(" ").forEach((name) => target.addEventListener(name, listener, { signal: cleanup.signal }));

  const limit = model.get("limit");
  const classes = model.get("classes");
  const colors = model.get("colors");
  const codes = halves(model.get("codes"));
  const labels = bytes(model.get("labels"));
  const decode = makeDecoder(model.get("sizes"), halves(model.get("weights")));
  const [backdrop, names] = ["canvas", "canvas"].map((tag) => document.createElement(tag)); // what does not move
  const picture = new ImageData(28, 28);
  picture.data.fill(255);

  const present = [...new Set(labels)].sort((a, b) => a - b);
  const medians = new Map(
    present.map((label) => {
      const own = [...labels.keys()].filter((i) => labels[i] === label);
      return [label, [0, 1].map((axis) => median(own.map((i) => codes[2 * i + axis])))];
    }),
  );
  const inside = (value) => Math.max(-limit, Math.min(limit, value));
  let a = [-limit / 2, (3 * limit) / 8]; // a first walk, across the plane
  let b = [limit / 2, (-3 * limit) / 8];
  let size = 0; // of the map, in CSS pixels
  let scale = 1; // device pixels in one of them
  let look = {}; // the colours and the font of the theme
  let frame = 0;
  let walking = 0;
  let moved = false; // nothing is said before
  let [syncing, speaking] = [0, 0];

  // The map: z₁ to the right, z₂ up.

  const place = ([x, y]) => [((x + limit) / (2 * limit)) * size, ((limit - y) / (2 * limit)) * size];

  const brush = (canvas) => {
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.lineJoin = "round";
    const { ink, paper, fontFamily } = look;
    const write = (text, [x, y], font) => {
      context.font = `${font} ${fontFamily}`;
      context.strokeStyle = paper;
      context.lineWidth = 4;
      context.strokeText(text, x, y); // a halo: readable on any cloud
      context.fillStyle = ink;
      context.fillText(text, x, y);
    };
    return { context, write };
  };

  function paintBackdrop() {
    size = map.clientWidth;
    scale = devicePixelRatio;
    for (const canvas of [map, backdrop, names]) canvas.width = canvas.height = Math.round(size * scale);
    const { color, backgroundColor, borderTopColor, fontFamily } = getComputedStyle(map);
    look = { ink: color, paper: backgroundColor, line: borderTopColor, fontFamily };
    const { context, write } = brush(backdrop);
    context.fillStyle = look.paper;
    context.fillRect(0, 0, size, size);
    const [x0, y0] = place([0, 0]);
    const sigma = size / (2 * limit);
    context.strokeStyle = look.line;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, y0);
    context.lineTo(size, y0);
    context.moveTo(x0, 0);
    context.lineTo(x0, size);
    context.stroke();
    context.lineWidth = 1.5;
    for (const radius of [1, 2, 3]) {
      context.beginPath();
      context.arc(x0, y0, radius * sigma, 0, 2 * Math.PI);
      context.stroke();
    }
    context.globalAlpha = 0.75;
    const dot = Math.max(1.1, Math.min(2.2, size / 270));
    for (let i = 0; i < labels.length; i++) {
      const [x, y] = place([codes[2 * i], codes[2 * i + 1]]);
      context.fillStyle = colors[labels[i]];
      context.beginPath();
      context.arc(x, y, dot, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
    const small = Math.max(11, Math.min(14, size / 38));
    context.textBaseline = "middle";
    context.textAlign = "center";
    for (const radius of [2, 3]) write(`${radius}σ`, place([radius * 0.7071, -radius * 0.7071]), `${small}px`);
    context.textAlign = "right";
    write("z₁", [size - 8, y0 - small], `italic ${small + 2}px`);
    context.textAlign = "left";
    write("z₂", [x0 + 8, small + 2], `italic ${small + 2}px`);
    nameClasses(Math.max(11, Math.min(16, size / 33)));
  }

  function nameClasses(font) {
    const { context, write } = brush(names);
    const taken = [];
    context.textBaseline = "middle";
    context.textAlign = "center";
    context.font = `600 ${font}px ${look.fontFamily}`;
    const byHeight = [...medians].sort(([, p], [, q]) => p[1] - q[1]);
    for (const [label, point] of byHeight) {
      let [x, y] = place(point.map(inside));
      const half = context.measureText(classes[label]).width / 2 + 4;
      x = Math.max(half, Math.min(size - half, x));
      y = Math.max(font, Math.min(size - font, y));
      for (const other of taken) // from the lowest up: a name that would cover another one moves above it
        if (Math.abs(x - other.x) < half + other.half && y > other.y - 1.25 * font) y = other.y - 1.25 * font;
      taken.push({ x, y, half });
      write(classes[label], [x, y], `600 ${font}px`);
    }
  }

  function drawMap(z) {
    const { context } = brush(map);
    const { ink, paper } = look;
    context.drawImage(backdrop, 0, 0, size, size);
    const [start, end, [x, y]] = [a, b, z].map(place);
    const stroke = (width, color) => {
      context.lineWidth = width;
      context.strokeStyle = color;
      context.stroke();
    };
    context.beginPath();
    context.moveTo(...start);
    context.lineTo(...end);
    stroke(4, paper);
    context.setLineDash([6, 5]);
    stroke(2, ink);
    context.setLineDash([]);
    context.drawImage(names, 0, 0, size, size);
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const [name, [left, top]] of [["A", start], ["B", end]]) {
      context.beginPath();
      context.arc(left, top, 9, 0, 2 * Math.PI);
      context.fillStyle = ink;
      context.fill();
      stroke(2, paper);
      context.fillStyle = paper;
      context.font = `700 12px ${look.fontFamily}`;
      context.fillText(name, left, top + 1);
    }
    context.beginPath();
    context.arc(x, y, 10, 0, 2 * Math.PI);
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 5 * dx, y + 5 * dy);
      context.lineTo(x + 16 * dx, y + 16 * dy);
    }
    stroke(6, paper);
    stroke(2.5, ink);
  }

  // The garment, and the point in words.

  function drawGarment(z) {
    const logits = decode(z);
    for (let i = 0; i < 784; i++) {
      const grey = Math.round(255 / (1 + Math.exp(logits[i]))); // dark ink on white paper
      picture.data[4 * i] = picture.data[4 * i + 1] = picture.data[4 * i + 2] = grey;
    }
    garment.getContext("2d").putImageData(picture, 0, 0);
  }

  function nearest(z) {
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
    return { className: classes[label], votes: most, voters: best.length };
  }

  function draw() {
    frame = 0;
    const z = model.get("z").map(inside);
    const text = words({ z, share: Math.exp(-(z[0] ** 2 + z[1] ** 2) / 2), ...nearest(z) });
    drawGarment(z);
    if (size) drawMap(z);
    sliders.forEach((slider, axis) => (slider.value = z[axis]));
    for (const [name, value] of Object.entries(text)) $(`.${name}`).textContent = value;
    clearTimeout(speaking);
    speaking = setTimeout(() => speak(text), SPEAK_AFTER);
  }

  function speak({ position, nearest, prior }) {
    garment.ariaLabel = `Decoded garment at z = ${position}, nearest class ${nearest}`;
    if (moved) spoken.textContent = `z = ${position}. Nearest class ${nearest} codes. ${prior}.`;
  }

  const soon = () => (frame ||= requestAnimationFrame(draw));

  const follows = () => ((moved = true), soon());

  const refresh = () => {
    explorer.dataset.theme = isDark(ownPage) ? "dark" : "light";
    if (!map.clientWidth) return; // not shown yet
    paintBackdrop();
    soon();
  };

  // Moving.

  function put(x, y) {
    model.set("z", [x, y].map((value) => Math.round(inside(value) * 1000) / 1000));
    soon();
    clearTimeout(syncing);
    syncing = setTimeout(() => model.save_changes(), SYNC_AFTER);
  }

  function sync() {
    clearTimeout(syncing);
    model.save_changes();
  }

  function walk(begin) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = (now) => {
      let way = Math.max(0, Math.min(1, (now - begin) / WALK));
      if (calm) way = Math.floor(way * STOPS) / STOPS;
      put(a[0] + way * (b[0] - a[0]), a[1] + way * (b[1] - a[1]));
      if (way < 1) walking = requestAnimationFrame(step);
      else stop();
    };
    walking = requestAnimationFrame(step);
    $(".play").textContent = "■ Stop";
  }

  function stop() {
    cancelAnimationFrame(walking);
    walking = 0;
    $(".play").textContent = "▶ Walk A to B";
  }

  const move = (x, y) => (stop(), put(x, y));

  const follow = (event) => {
    const box = map.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left - 1, event.clientY - box.top - 1]; // less the border
    move((2 * x * limit) / size - limit, limit - (2 * y * limit) / size);
  };

  const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

  on(map, "pointerdown", (event) => {
    if (!event.isPrimary || event.button) return;
    map.setPointerCapture(event.pointerId);
    follow(event);
  });
  on(map, "pointermove", (event) => map.hasPointerCapture(event.pointerId) && follow(event));
  on(map, "lostpointercapture", sync);
  on(map, "keydown", (event) => {
    const direction = keys[event.key];
    if (!direction || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const step = event.shiftKey ? LARGE_STEP : SMALL_STEP;
    const z = model.get("z");
    move(z[0] + step * direction[0], z[1] + step * direction[1]);
  });
  on(root, "keydown", (event) => {
    if (event.key === "Escape") stop();
    if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation(); // classic Notebook's shortcuts
  });
  sliders.forEach((slider, axis) => {
    [slider.min, slider.max] = [-limit, limit];
    on(slider, "input", () => move(...model.get("z").map((value, i) => (i === axis ? +slider.value : value))));
  });
  on($(".surprise"), "click", () => {
    const radius = Math.sqrt(-2 * Math.log(1 - Math.random())); // Box and Muller
    const angle = 2 * Math.PI * Math.random();
    move(radius * Math.cos(angle), radius * Math.sin(angle));
  });
  on($(".set-a"), "click", () => (stop(), (a = model.get("z").map(inside)), soon()));
  on($(".set-b"), "click", () => (stop(), (b = model.get("z").map(inside)), soon()));
  on($(".play"), "click", () => (walking ? stop() : walk(performance.now())));

  // What changes around it.

  const shown = new ResizeObserver(() => map.clientWidth !== size && refresh());
  const themed = new MutationObserver(refresh);
  for (const element of [document.documentElement, document.body])
    themed.observe(element, { attributeFilter: ["class", "theme", "data-jp-theme-light", "data-vscode-theme-kind"] });
  on(matchMedia("(prefers-color-scheme: dark)"), "change", refresh);
  on(window, "resize", () => devicePixelRatio !== scale && refresh());
  model.on("change:z", follows);
  stop();
  refresh();
  shown.observe(map);
  return () => {
    stop();
    cleanup.abort();
    shown.disconnect();
    themed.disconnect();
    model.off("change:z", follows);
    cancelAnimationFrame(frame);
    [syncing, speaking].forEach(clearTimeout);
    host.remove();
  };
}

// Show the explorer on a page of its own: `state` holds what the widget's traits would.
function mount(el, state) {
  document.head.appendChild(document.createElement("style")).textContent = PAGE_STYLE;
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
