// The latent explorer: a map of the latent plane, a VAE's decoder that runs in the page, and a pen: what the reader
// draws has its exact posterior p(z|x) on the map, because a plane has few enough points for Bayes' theorem as it is.
// The notebook's widget (anywidget) calls render, the saved page calls mount. No imports, no requests, no kernel.

const SMALL_STEP = 0.05; // of an arrow key
const LARGE_STEP = 0.5; // of an arrow key with Shift
const AROUND = [-1, 0, 1].flatMap((up) => [-1, 0, 1].map((right) => [right, up])).filter(([x, y]) => x || y);
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const WALK = 4000; // milliseconds from A to B
const STOPS = 8; // of a walk for readers who asked for less motion
const TOGETHER = 0.5; // the medians of all classes, on both axes
const NEIGHBOURS = 5; // that vote on the nearest class
const SYNC_AFTER = 100; // milliseconds of rest before Python learns where the point is
const SPEAK_AFTER = 400; // milliseconds of rest before a screen reader does

const SIDE = 28; // pixels of an image
const PIXELS = SIDE * SIDE;
const HALF_WIDTH = 5; // of the square over which p(x|z) p(z) is summed, as in exact.py
const ROOTS = 6; // patches of 4 x 4 cells on a side of the square; a cell is cut into a patch of 4 x 4 smaller ones
const DEPTH = [24, 96, 384, 1536, 6144]; // cells on a side of the square, level by level
const REACH = [Infinity, 10, 8, 8]; // nats: a cell is cut that may rise to so little below the peak; all of level 0 are
const ROUGH = 0.3; // of a cell's roughness, the rise that it makes possible
const SMOOTH = 0.3; // nats: a cell of level 2 less rough than that is far smaller than a posterior there is wide
const CURVED = 1; // nats that the joint falls off its chord within a cell of level 2 or 3: more, and it is cut
const PATCHES = 1400; // of 50 kB: with more, those of earlier images are forgotten
const WORKERS = Math.min(navigator.hardwareConcurrency || 1, 4); // one of them rests while the reader draws
const AT_ONCE = 8; // patches for all workers together, about 30 ms of work for one
const REST = 150; // milliseconds without a stroke before the islands are refined
const PAINT_EVERY = 120; // milliseconds, as the grid becomes finer: the pen comes first
const SHOWN_NATS = 10; // of the density's logarithm, from the peak down
const SHADE = 384; // pixels on a side of the picture of the density
const UNDO = 50; // strokes
// Gauss and Hermite's rule with 8 nodes, for the mean under a Gaussian.
const NODES = [-4.1445471861258945, -2.8024858612875416, -1.636519042435108, -0.5390798113513751, 0.5390798113513751,
  1.636519042435108, 2.8024858612875416, 4.1445471861258945];
const NODE_WEIGHTS = [0.00011261453837536762, 0.009635220120788256, 0.11723990766175904, 0.3730122576790773,
  0.3730122576790773, 0.11723990766175904, 0.009635220120788256, 0.00011261453837536762];

const BODY = `
<style>
  :host { display: block; width: 100%; container-type: inline-size; contain: layout style; }
  .explorer {
    --ink: var(--jp-ui-font-color0, var(--vscode-editor-foreground, #16181d));
    --paper: var(--jp-layout-color0, var(--vscode-editor-background, #fff));
    --accent: #1d63ad;
    display: grid; gap: 16px; max-width: 1080px; margin: auto; padding: 4px; box-sizing: border-box;
    grid: "modes modes" "garment readout" "map map" "sliders sliders" "buttons buttons" / minmax(0, 44%) minmax(0, 1fr);
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
  [hidden] { display: none !important; }
  canvas { display: block; width: 100%; aspect-ratio: 1; border: 1px solid var(--line); border-radius: 10px; }
  .map { grid-area: map; color: var(--ink); background: var(--paper); touch-action: none; cursor: crosshair; }
  .map { accent-color: var(--accent); }
  figure { margin: 0; }
  .decoded { grid-area: garment; }
  figcaption { color: var(--quiet); font-size: 13px; line-height: 1.25; margin-top: 4px; }
  .garment, .at-code, .at-peak { image-rendering: pixelated; background: #fff; }
  .modes { grid-area: modes; display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; }
  .modes label, .tools label { flex: 0 1 auto; }
  .pad { grid-area: pad; image-rendering: pixelated; background: #fff; touch-action: none; cursor: crosshair; }
  .tools { grid-area: tools; display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
  .tools input { width: 110px; }
  .code { grid-area: code; }
  .peak { grid-area: peak; }
  .bayes { grid-area: bayes; margin: 0; display: grid; grid: auto / 1fr 1fr; gap: 8px; align-content: start; }
  .words { grid-area: words; margin: 0; max-width: 90ch; min-height: 5.6em; }
  [data-settled="false"] .words { visibility: hidden; } /* the numbers beside them are others by now */
  select {
    font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--quiet); border-radius: 8px;
    min-height: 38px; padding: 0 8px; max-width: 100%; min-width: 0;
  }
  [aria-pressed="true"] { background: var(--ink); color: var(--paper); border-color: var(--ink); }
  [aria-pressed="true"]:hover { background: var(--quiet); }
  @media (forced-colors: active) {
    [aria-pressed="true"], [aria-pressed="true"]:hover {
      forced-color-adjust: none; background: Highlight; color: HighlightText; border-color: Highlight;
    }
  }
  [data-mode="draw"] {
    grid-template-areas: "modes modes modes" "pad pad pad" "tools tools tools" "map map map" "code peak garment"
      "bayes bayes bayes" "words words words" "readout readout readout" "sliders sliders sliders";
    grid-template-columns: repeat(3, minmax(0, 1fr));
  }
  .readout { grid-area: readout; margin: 0; display: grid; gap: 8px; align-content: space-evenly; }
  dt { color: var(--quiet); font-size: 13px; }
  dd { margin: 0; font-weight: 600; min-height: 2.8em; }
  .position { min-height: 1.4em; white-space: nowrap; }
  .bayes dd { min-height: 1.4em; }
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
  @media (pointer: coarse) and (orientation: landscape) and (max-height: 500px) {
    .map, .pad { width: 75%; justify-self: center; } /* a finger needs room beside them, to scroll */
  }
  @container (min-width: 600px) {
    .explorer { gap: 16px 24px; font-size: 16px;
      grid: "modes modes" "map garment" "readout readout" "sliders sliders" "buttons buttons" / minmax(0, 1fr)
        minmax(0, 1fr); }
    [data-mode="draw"] {
      grid-template-areas: "modes modes modes modes modes modes" "map map map pad pad pad"
        "tools tools tools tools tools tools" "bayes bayes bayes code peak garment"
        "words words words words words words"
        "readout readout readout readout readout readout" "sliders sliders sliders sliders sliders sliders";
      grid-template-columns: repeat(6, minmax(0, 1fr));
    }
    .readout { grid: auto / 9fr 11fr 50%; column-gap: 12px; }
    .readout > :last-child { padding-left: 12px; }
    .readout dd { min-height: 0; font-size: clamp(13px, 2.1cqw, 18px); white-space: nowrap; }
    .sliders { gap: 24px; }
    .hint { flex: 1; text-align: right; }
  }
</style>
<div class="explorer" role="group" aria-label="Latent explorer">
  <div class="modes" hidden>
    <button type="button" class="to-drag" aria-pressed="true">Drag</button>
    <button type="button" class="to-draw" aria-pressed="false">Draw</button>
    <label class="which">Decoder <select class="decoder"></select></label>
  </div>
  <canvas class="map" tabindex="0" role="application" aria-label="Map of the latent plane. Arrow keys move the point,
    with Shift in larger steps."></canvas>
  <canvas class="pad drawing" width="336" height="336" tabindex="0" role="application" hidden aria-label="Drawing pad
    of 28 by 28 pixels. Arrow keys move the brush, space paints, Shift with an arrow paints along the way, B takes the
    brush, E the eraser, U undoes."></canvas>
  <div class="tools drawing" role="group" aria-label="Pen" hidden>
    <label>Start from <select class="start"></select></label>
    <button type="button" class="brush" aria-pressed="true">Brush</button>
    <button type="button" class="eraser" aria-pressed="false">Eraser</button>
    <label>Ink <input type="range" class="ink" min="5" max="100" step="5" value="80" aria-label="Ink, per cent"></label>
    <label>Width <input type="range" class="width" min="1" max="7" value="3" aria-label="Width, pixels"></label>
    <button type="button" class="undo">Undo</button>
    <button type="button" class="clear">Clear</button>
    <p class="hint legend"></p>
  </div>
  <dl class="bayes drawing" hidden>
    <div><dt>log p(x)</dt><dd class="log-p"></dd></div>
    <div><dt>Floor of −log p(x)</dt><dd class="floor"></dd></div>
    <div><dt>ELBO</dt><dd class="elbo"></dd></div>
    <div><dt>Gap, log p(x) − ELBO</dt><dd class="gap"></dd></div>
    <div><dt>Encoder’s code μ</dt><dd class="mean"></dd></div>
    <div><dt>Posterior’s peak</dt><dd class="top"></dd></div>
  </dl>
  <figure class="code drawing" hidden>
    <canvas class="at-code" width="28" height="28" role="img" aria-label="Garment at the encoder’s code"></canvas>
    <figcaption>at the encoder’s code</figcaption>
  </figure>
  <figure class="peak drawing" hidden>
    <canvas class="at-peak" width="28" height="28" role="img" aria-label="Garment at the posterior’s peak"></canvas>
    <figcaption>at the posterior’s peak</figcaption>
  </figure>
  <figure class="decoded">
    <canvas class="garment" width="28" height="28" role="img" aria-label="Decoded garment"></canvas>
    <figcaption class="drawing" hidden>at the cross</figcaption>
  </figure>
  <p class="words drawing" hidden></p>
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

function bytes(base64) {
  const text = atob(base64);
  const values = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) values[i] = text.charCodeAt(i); // Uint8Array.from takes thirty times as long
  return values;
}

// All 65,536 numbers of float16: Float16Array is too new to rely on.
const HALVES = Float32Array.from({ length: 2 ** 16 }, (_, half) => {
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
  return half & 0x8000 ? -size : size;
});

function halves(base64) {
  const data = bytes(base64);
  const values = new Float32Array(data.length / 2);
  for (let i = 0; i < values.length; i++) values[i] = HALVES[data[2 * i] + 256 * data[2 * i + 1]];
  return values;
}

// Linear layers with SiLU between them, as torch keeps them: each weight (out, in) in rows, then its bias. Four rows go
// together: four sums that do not wait for one another.
function makeNetwork(sizes, weights) {
  let at = 0;
  const take = (count) => weights.subarray(at, (at += count));
  const layers = sizes.slice(1).map((n, i) => {
    return { weight: take(n * sizes[i]), bias: take(n), out: new Float32Array(n) };
  });
  return (input) => {
    let h = input;
    for (const { weight, bias, out } of layers) {
      const n = h.length;
      for (let j = 0; j < out.length; j += 4) {
        let [s0, s1, s2, s3] = [bias[j], bias[j + 1], bias[j + 2], bias[j + 3]];
        for (let i = 0, k = j * n; i < n; i++, k++) {
          const value = h[i];
          s0 += weight[k] * value;
          s1 += weight[k + n] * value;
          s2 += weight[k + 2 * n] * value;
          s3 += weight[k + 3 * n] * value;
        }
        [out[j], out[j + 1], out[j + 2], out[j + 3]] = [s0, s1, s2, s3]; // what is beyond the last row is not kept
      }
      if (out !== layers.at(-1).out) for (let j = 0; j < out.length; j++) out[j] /= 1 + Math.exp(-out[j]);
      h = out;
    }
    return h; // of a decoder, logits
  };
}

// q(z|x) of an image of bytes: its mean and the logarithms of its variances.
function makeEncoder(sizes, weights) {
  const network = makeNetwork(sizes, weights);
  const logSigmoid = (h) => Math.min(h, 0) - Math.log1p(Math.exp(-Math.abs(h)));
  return (image) => {
    const out = network(Float32Array.from(image, (grey) => grey / 255));
    return { mean: [out[0], out[1]], logvar: [logSigmoid(out[2]), logSigmoid(out[3])] };
  };
}

function readDecoder(model, prefix = "") {
  const sizes = model.get(`${prefix}sizes`);
  const weights = halves(model.get(`${prefix}weights`));
  const codes = halves(model.get(`${prefix}codes`));
  const encoder = prefix ? "" : model.get("encoder");
  const encode = encoder ? makeEncoder(model.get("encoder_sizes"), halves(encoder)) : null;
  return { sizes, weights, codes, encode, decode: makeNetwork(sizes, weights) };
}

function readData(model) {
  const data = {
    limit: model.get("limit"),
    classes: model.get("classes"),
    colors: model.get("colors"),
    labels: bytes(model.get("labels")),
    images: bytes(model.get("images") ?? ""),
    imageNames: model.get("image_names") ?? [],
    penned: Boolean(model.get("pen")),
    decoders: [],
    chosen: 0, // of the decoders
    use(index) {
      const decoder = data.decoders[index];
      data.chosen = index;
      Object.assign(data, (decoder.parts ??= decoder.read()));
      data.medians = mediansOf(data);
    },
    read() {
      data.labels = bytes(model.get("labels"));
      const [vae, alone] = ["of the VAE", "trained without an encoder"];
      data.decoders = [{ name: model.get("encoder") ? vae : alone, read: () => readDecoder(model) }];
      if (model.get("alone_weights")) data.decoders.push({ name: alone, read: () => readDecoder(model, "alone_") });
      data.use(data.chosen);
    },
  };
  data.read();
  return data;
}

// The cloud of codes.

function median(values) {
  return values.sort((a, b) => a - b)[(values.length - 1) >> 1]; // as torch.median
}

function mediansOf({ codes, labels, classes }) {
  const present = [...new Set(labels)].sort((a, b) => a - b);
  return present.map((label) => {
    const own = [...labels.keys()].filter((i) => labels[i] === label);
    return { label, name: classes[label], point: [0, 1].map((axis) => median(own.map((i) => codes[2 * i + axis]))) };
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

// Numbers in words: two digits, a true minus sign, and none before zero.
const signed = (value) => value.toFixed(2).replace(/^-(?=0\.00$)/, "").replace("-", "−");
const pair = (point) => `(${point.map(signed).join(", ")})`;

function describe(z, data) {
  const share = Math.exp(-(z[0] ** 2 + z[1] ** 2) / 2);
  const percent = share >= 0.1 ? Math.round(100 * share) : share >= 0.001 ? (100 * share).toFixed(1) : "fewer than 0.1";
  return {
    position: pair(z),
    nearest: nearest(z, data),
    prior: `${percent} % of draws fall farther out`,
  };
}

// The point.

const inside = (limit, point) => point.map((value) => Math.max(-limit, Math.min(limit, value)));

// What the parts share: the point z, which the model keeps, and the ends a and b of the walk.
// `left` is called where another moves the point: Python, or a second view of the same explorer.
function makeState(model, limit, changed, left) {
  let [syncing, own] = [0, null]; // where the reader has moved the point, until the model knows
  const rest = () => (clearTimeout(syncing), (syncing = 0));
  const follow = () => {
    if (model.get("z") !== own) {
      rest();
      left();
    }
    state.moved = true;
    changed();
  };
  const state = {
    a: [-limit / 2, (3 * limit) / 8], // a first walk, across the plane
    b: [limit / 2, (-3 * limit) / 8],
    moved: false,
    get z() {
      return inside(limit, syncing ? own : model.get("z"));
    },
    put(z) {
      own = inside(limit, z).map((value) => Math.round(value * 1000) / 1000);
      rest();
      syncing = setTimeout(state.sync, SYNC_AFTER);
      state.moved = true;
      changed();
    },
    mark(end) {
      state[end] = state.z;
      changed();
    },
    sync() {
      if (!syncing) return;
      rest();
      model.set("z", own);
      model.save_changes();
    },
    release() {
      model.off("change:z", follow);
      state.sync();
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
    pointAt(event) {
      const [x, y] = shareOf(canvas, event);
      return [(2 * x - 1) * limit, (1 - 2 * y) * limit];
    },
  };
}

// Where an event is, in shares of the canvas' width and height without its border; slides may have scaled it.
function shareOf(canvas, { clientX, clientY }) {
  const box = canvas.getBoundingClientRect();
  const border = box.width / canvas.offsetWidth; // one CSS pixel
  const [width, height] = [box.width - 2 * border, box.height - 2 * border];
  return [(clientX - box.left - border) / width, (clientY - box.top - border) / height];
}

function lookAt(canvas, limit) {
  const size = canvas.clientWidth; // in CSS pixels
  const { color, backgroundColor, borderTopColor, fontFamily, accentColor } = getComputedStyle(canvas);
  const place = ([x, y]) => [((x + limit) / (2 * limit)) * size, ((limit - y) / (2 * limit)) * size];
  const look = { ink: color, paper: backgroundColor, line: borderTopColor, accent: accentColor, fontFamily };
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

function mapLayers(data, state, pen) {
  const dragging = (layer) => (brush) => pen.active || layer(brush);
  const drawing = (layer) => (brush) => pen.active && layer(brush);
  return [
    still(paintAxes, (brush) => paintCloud(brush, data), paintScale),
    dragging((brush) => paintWay(brush, state.a, state.b)),
    still((brush) => paintNames(brush, data)),
    drawing((brush) => paintDensity(brush, pen.shade)), // no name hides a posterior
    dragging((brush) => paintEnd(brush, "A", state.a)),
    dragging((brush) => paintEnd(brush, "B", state.b)),
    drawing((brush) => paintBelief(brush, pen.found)),
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

// Before a training all classes lie on one spot, and no name has a place.
function areTogether(medians) {
  const width = (axis) => {
    const values = medians.map(({ point }) => point[axis]);
    return Math.max(...values) - Math.min(...values);
  };
  return medians.length > 1 && Math.max(width(0), width(1)) < TOGETHER;
}

// Each in a frame of its class's colour: the legend of the cloud.
function paintNames(brush, { medians, colors }) {
  if (areTogether(medians)) return;
  const { context, size, limit, place, fontFamily } = brush;
  const height = Math.max(11, Math.min(16, size / 33));
  const taken = [];
  context.textBaseline = "middle";
  context.textAlign = "center";
  context.font = `600 ${height}px ${fontFamily}`;
  for (const { name, label, point } of [...medians].sort((p, q) => p.point[1] - q.point[1])) {
    let [x, y] = place(inside(limit, point));
    const half = context.measureText(name).width / 2 + 4;
    x = Math.max(half, Math.min(size - half, x));
    y = Math.max(height, Math.min(size - height, y));
    for (const other of taken) // from the lowest up: a name that would cover another one moves above it
      if (Math.abs(x - other.x) < half + other.half && y > other.y - 1.5 * height) y = other.y - 1.5 * height;
    taken.push({ x, y, half });
    writeFramed(brush, name, [x, y], [half, 0.65 * height], colors[label]);
  }
}

function writeFramed({ context, ink, paper }, text, [x, y], [half, up], color) {
  context.beginPath();
  context.roundRect(x - half, y - up, 2 * half, 2 * up, 4);
  context.globalAlpha = 0.85;
  context.fillStyle = paper;
  context.fill();
  context.globalAlpha = 1;
  stroke(context, 2, color);
  context.fillStyle = ink;
  context.fillText(text, x, y);
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

// The posterior: its shade, where the light is, and what the encoder says.
function paintDensity({ context, size, limit, paper, ink }, shade) {
  context.globalAlpha = 0.4;
  context.fillStyle = paper;
  context.fillRect(0, 0, size, size); // cloud and names step back
  context.globalAlpha = 1;
  const margin = ((HALF_WIDTH - limit) / (2 * HALF_WIDTH)) * SHADE;
  const side = SHADE - 2 * margin;
  context.drawImage(shade.in(ink), margin, margin, side, side, 0, 0, size, size);
}

function paintBelief(brush, { code, peak, islands = [] }) {
  const { context, size, limit, place, paper, accent } = brush;
  if (code) {
    const [x, y] = place(code.mean);
    const [width, height] = code.logvar.map((v) => (Math.exp(v / 2) * 2 * size) / (2 * limit));
    context.beginPath();
    context.ellipse(x, y, width, height, 0, 0, 2 * Math.PI);
    stroke(context, 5, paper);
    stroke(context, 2.5, accent);
  }
  if (!peak) return;
  const [x, y] = place(peak);
  context.beginPath();
  context.moveTo(x, y - 7);
  for (const [dx, dy] of [[7, 0], [0, 7], [-7, 0], [0, -7]]) context.lineTo(x + dx, y + dy);
  stroke(context, 4.5, paper);
  stroke(context, 2, accent);
  context.textBaseline = "middle";
  const told = islands.length > 1 ? islands.filter(({ share }) => share >= 0.01) : [];
  for (const { share, point } of told) {
    const [left, middle] = place(point); // an island may be a pixel wide
    write(brush, `${Math.round(100 * share)} %`, [left + 11, middle], "600 12px");
  }
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

// Bayes' theorem on the plane, which needs log p(x|z) + log p(z) at many points:
// x . logits(z) - sum softplus(logits(z)) + log p(z).

// Decodes sixteen points at once, z1 and z2 in turn, in blocks of four by four: what is read once is used four times.
// Returns the logits, pixel by pixel with sixteen numbers each, and minus the sums of their softplus. The worker has it
// too, as text: it may know nothing outside.
function makeBatch(sizes, weights) {
  let at = 0;
  const layers = sizes.slice(1).map((size, i) => {
    const rows = 4 * Math.ceil(size / 4); // the last block may have rows of zeros
    const layer = { inputs: sizes[i], rows, weight: new Float32Array(rows * sizes[i]), bias: new Float32Array(rows) };
    layer.weight.set(weights.subarray(at, (at += size * sizes[i])));
    layer.bias.set(weights.subarray(at, (at += size)));
    return layer;
  });
  function block({ inputs: n, weight, bias }, h, out, j, c) {
    const sums = [bias[j], bias[j + 1], bias[j + 2], bias[j + 3]];
    let [s00, s10, s20, s30] = sums, [s01, s11, s21, s31] = sums;
    let [s02, s12, s22, s32] = sums, [s03, s13, s23, s33] = sums;
    let w0 = j * n, w1 = w0 + n, w2 = w1 + n, w3 = w2 + n;
    for (let i = 0, k = c; i < n; i++, k += 16) {
      const h0 = h[k], h1 = h[k + 1], h2 = h[k + 2], h3 = h[k + 3];
      const a = weight[w0++], b = weight[w1++], d = weight[w2++], e = weight[w3++];
      s00 += a * h0; s01 += a * h1; s02 += a * h2; s03 += a * h3;
      s10 += b * h0; s11 += b * h1; s12 += b * h2; s13 += b * h3;
      s20 += d * h0; s21 += d * h1; s22 += d * h2; s23 += d * h3;
      s30 += e * h0; s31 += e * h1; s32 += e * h2; s33 += e * h3;
    }
    const o = 16 * j + c;
    out[o] = s00; out[o + 1] = s01; out[o + 2] = s02; out[o + 3] = s03;
    out[o + 16] = s10; out[o + 17] = s11; out[o + 18] = s12; out[o + 19] = s13;
    out[o + 32] = s20; out[o + 33] = s21; out[o + 34] = s22; out[o + 35] = s23;
    out[o + 48] = s30; out[o + 49] = s31; out[o + 50] = s32; out[o + 51] = s33;
  }
  return (points) => {
    let h = new Float32Array(32);
    for (let i = 0; i < 16; i++) [h[i], h[16 + i]] = [points[2 * i], points[2 * i + 1]];
    for (const layer of layers) {
      const out = new Float32Array(16 * layer.rows);
      for (let c = 0; c < 16; c += 4) for (let j = 0; j < layer.rows; j += 4) block(layer, h, out, j, c);
      if (layer !== layers.at(-1)) for (let i = 0; i < out.length; i++) out[i] /= 1 + Math.exp(-out[i]);
      h = out;
    }
    const offset = new Float64Array(16);
    for (let i = 0; i < h.length; i++) offset[i & 15] -= Math.max(h[i], 0) + Math.log1p(Math.exp(-Math.abs(h[i])));
    return { logits: h, offset };
  };
}

// The whole life of the worker, which is made from text as well.
function serve() {
  let batch;
  onmessage = ({ data: { sizes, weights, points } }) => {
    if (!points) return (batch = makeBatch(sizes, weights));
    const decoded = points.map(batch);
    postMessage(decoded, decoded.map(({ logits }) => logits.buffer));
  };
}

// Decodes lists of sixteen points, one request at a time, in workers or, where there may be none, here between frames.
function makeService(sizes, weights) {
  let [workers, chosen, decoded, busy, batch, asked, answer, address] = [[], [], [], 0];
  const reply = (all) => {
    const then = answer;
    answer = undefined;
    then(all);
  };
  // Of what was asked for, worker w of the n chosen has every n-th from the w-th on.
  const take = (some, w) => {
    some.forEach((one, i) => (decoded[w + i * chosen.length] = one));
    busy--;
    if (!busy && answer) reply(decoded);
  };
  const stop = () => {
    workers.forEach((worker) => worker.terminate());
    workers = chosen = [];
  };
  const decodeHere = () => {
    stop();
    batch ??= makeBatch(sizes, weights);
    setTimeout(() => answer && reply(asked.map(batch)));
  };
  try {
    address = URL.createObjectURL(new Blob([`${makeBatch}\n(${serve})();`], { type: "text/javascript" }));
    for (let w = 0; w < WORKERS; w++) {
      workers.push(new Worker(address));
      workers[w].onmessage = ({ data }) => take(data, w);
      workers[w].onerror = decodeHere;
      workers[w].postMessage({ sizes, weights });
    }
  } catch {
    stop(); // a page may forbid them
  }
  return {
    free: () => !answer,
    size: () => (workers.length ? AT_ONCE : 1),
    ask(points, then, resting) {
      chosen = resting ? workers : workers.slice(0, Math.max(workers.length - 1, 1)); // a core for the pen
      [asked, answer, decoded, busy] = [points, then, [], chosen.length];
      if (!busy) decodeHere();
      chosen.forEach((worker, w) => worker.postMessage({ points: points.filter((_, i) => i % chosen.length === w) }));
    },
    release() {
      answer = undefined;
      stop();
      URL.revokeObjectURL(address);
    },
  };
}

// The plane is cut into cells, a patch has 4 x 4 of them, and a cell may be cut into a patch of its own.
const cellOf = ({ x, y, side }, k) => [x + ((k & 3) - 1.5) * side, y + ((k >> 2) - 1.5) * side];

function pointsOf(patch) {
  return Float32Array.from({ length: 32 }, (_, i) => cellOf(patch, i >> 1)[i & 1]);
}

const columnAndRow = (point) => point.map((v) => Math.floor((v + HALF_WIDTH) / sideAt(1))); // of its cell on level 1

const sideAt = (level) => (2 * HALF_WIDTH) / DEPTH[level]; // of a cell

function rootPlaces() {
  const side = 4 * sideAt(0);
  return Array.from({ length: ROOTS ** 2 }, (_, i) => {
    const [x, y] = [i % ROOTS, Math.floor(i / ROOTS)].map((n) => (n + 0.5) * side - HALF_WIDTH);
    return { x, y, side: sideAt(0), level: 0 };
  });
}

function makePatch(place, { logits, offset }, image) {
  const joint = offset.map((value, k) => {
    const [x, y] = cellOf(place, k);
    return value - (x * x + y * y) / 2 - Math.log(2 * Math.PI);
  });
  const patch = { ...place, logits, joint, cells: new Array(16).fill(null) };
  shift(patch, changesBetween(new Uint8Array(PIXELS), image));
  return patch;
}

// Pairs of a pixel and how much darker it is.
function changesBetween(before, after) {
  const changes = [];
  for (let i = 0; i < PIXELS; i++) if (after[i] !== before[i]) changes.push([i, (after[i] - before[i]) / 255]);
  return changes;
}

// The image changes at some pixels, and log p(x, z) with it, by as much of each pixel's logit.
function shift({ logits, joint }, changes) {
  for (const [pixel, by] of changes) for (let k = 0, i = 16 * pixel; k < 16; k++) joint[k] += by * logits[i++];
}

function everyPatch(patches, visit) {
  for (const patch of patches) {
    if (!patch) continue; // a cell that is not cut
    visit(patch);
    everyPatch(patch.cells, visit);
  }
}

function everyLeaf(patches, visit) {
  everyPatch(patches, (patch) => {
    for (let k = 0; k < 16; k++) if (!patch.cells[k]) visit(patch, k);
  });
}

// log p(x) in nats, and where log p(x, z) is largest.
function weigh(roots) {
  let top = -Infinity;
  let peak = null;
  everyLeaf(roots, (patch, k) => {
    if (patch.joint[k] > top) [top, peak] = [patch.joint[k], { patch, k }];
  });
  let mass = 0;
  everyLeaf(roots, ({ joint, side }, k) => (mass += Math.exp(joint[k] - top) * side * side));
  return { top, mass, best: peak, peak: cellOf(peak.patch, peak.k), logP: top + Math.log(mass) };
}

const logitsOf = ({ patch, k }) => Float32Array.from({ length: PIXELS }, (_, i) => patch.logits[16 * i + k]);

function isNarrow({ joint }) {
  for (let k = 0; k < 16; k++) {
    if ((k & 3) < 2 && joint[k + 1] - (joint[k] + joint[k + 2]) / 2 > CURVED) return true;
    if (k < 8 && joint[k + 4] - (joint[k] + joint[k + 8]) / 2 > CURVED) return true;
  }
  return false;
}

// The cell beside the k-th of a patch, one step in x or in y: within the patch, or in the one beside it on level 1.
function beside(roots, patch, k, [dx, dy]) {
  const [column, row] = [(k & 3) + dx, (k >> 2) + dy];
  if (column === (column & 3) && row === (row & 3)) return { patch, k: 4 * row + column };
  if (patch.level !== 1) return null;
  const [x, y] = columnAndRow(cellOf(patch, k));
  const [i, j] = [x + dx, y + dy];
  if (i < 0 || j < 0 || i >= DEPTH[1] || j >= DEPTH[1]) return null;
  const root = roots[ROOTS * (j >> 4) + (i >> 4)];
  return { patch: root.cells[4 * ((j >> 2) & 3) + ((i >> 2) & 3)], k: 4 * (j & 3) + (i & 3) };
}

// p of the sixteen images of a patch.
function imagesOf(patch) {
  patch.images ??= patch.logits.map((logit) => 1 / (1 + Math.exp(-logit)));
  return patch.images;
}

// How far the images of some cells differ from those of others, in nats: (p - p') . (logits - logits').
function distancesBetween(a, own, b, others) {
  const [p, q] = [imagesOf(a), imagesOf(b)];
  const sums = new Float64Array(own.length);
  for (let i = 0; i < 16 * PIXELS; i += 16)
    for (let n = 0; n < own.length; n++) {
      const [j, k] = [i + own[n], i + others[n]];
      sums[n] += (p[j] - q[k]) * (a.logits[j] - b.logits[k]);
    }
  return sums;
}

// The largest distance from each cell to one beside it. For cells of side h that is about h^2 / sigma^2, where sigma is
// the width of a posterior there; across a cliff of the decoder it is far more.
function roughnessOf(roots, patch) {
  const rough = new Float64Array(16);
  for (const way of Object.values(ARROWS)) {
    const cells = Array.from({ length: 16 }, (_, k) => beside(roots, patch, k, way));
    for (const other of new Set(cells.map((cell) => cell?.patch).filter(Boolean))) {
      const own = [...cells.keys()].filter((k) => cells[k]?.patch === other);
      const distances = distancesBetween(patch, own, other, own.map((k) => cells[k].k));
      own.forEach((k, n) => (rough[k] = Math.max(rough[k], distances[n])));
    }
  }
  return rough;
}

// What log p(x, z) may reach within a cell. The middle of a narrow island's cell may be far down its side: the steps to
// the cells beside it say how steep that is, the roughness how soon it bends.
function hopeOf(roots, patch, k) {
  const { joint, level } = patch;
  if (level === 0) return joint[k];
  const step = (way) => {
    const cell = beside(roots, patch, k, way);
    return cell ? Math.abs(joint[k] - cell.patch.joint[cell.k]) / 2 : 0;
  };
  const slope = Math.max(step([-1, 0]), step([1, 0])) + Math.max(step([0, -1]), step([0, 1]));
  if (level < 3) patch.rough ??= roughnessOf(roots, patch);
  return joint[k] + slope + (patch.rough ? ROUGH * patch.rough[k] : 0);
}

const isWhole = (roots) => roots.every(({ cells }) => cells.every(Boolean)); // on level 1

// The first of the patches on level 1 whose roughness is not known yet.
function roughen(roots, count) {
  const left = roots.flatMap(({ cells }) => cells).filter(({ rough }) => !rough);
  for (const patch of left.slice(0, count)) patch.rough = roughnessOf(roots, patch);
  return left.length > 0;
}

// What to cut next, the most probable cell first. All cells of level 0 are cut in the end.
function cellsToCut(roots, resting) {
  const found = [];
  const levels = resting && isWhole(roots) ? REACH.length : 1; // the grid first, then the islands
  const { top } = weigh(roots);
  everyLeaf(roots, (patch, k) => {
    const { level } = patch;
    if (level >= levels || (level === 3 && !isNarrow(patch))) return;
    const hope = hopeOf(roots, patch, k);
    if (top - hope >= REACH[level]) return;
    if (level === 2 && patch.rough[k] < SMOOTH && !isNarrow(patch)) return; // finer ones would find the same sum
    const [x, y] = cellOf(patch, k);
    found.push({ x, y, side: sideAt(level + 1), level: level + 1, parent: patch, k, hope });
  });
  everyPatch(roots, (patch) => (patch.images = null)); // as large as all that is kept
  return found.sort((a, b) => b.hope - a.hope);
}

// The peak may have risen since.
function stillToCut(places, roots) {
  const { top } = weigh(roots);
  return places.filter(({ level, hope }) => top - hope < REACH[level - 1]);
}

// Forgets what was cut for other images and counts what is left: the fine patches that hold nothing of this one.
function prune(roots) {
  const least = weigh(roots).top - REACH[1];
  everyPatch(roots, (patch) => {
    if (patch.level === 0) return;
    patch.cells.forEach((cell, k) => {
      const low = cell && cell.joint.every((value) => value < least);
      if (low && !cell.cells.some(Boolean) && hopeOf(roots, patch, k) < least) patch.cells[k] = null;
    });
  });
  let left = 0;
  everyPatch(roots, () => left++);
  return left;
}

function plant(roots, { parent, k }, patch) {
  if (parent) parent.cells[k] = patch;
  else roots.push(patch);
}

// The patches to decode next.
function makeQueue(roots) {
  let queue = [];
  return {
    forget: () => (queue = []), // the image is another one
    next(count, resting) {
      if (roots.length < ROOTS ** 2) return rootPlaces().slice(roots.length, roots.length + count);
      if (resting && isWhole(roots) && roughen(roots, count)) return []; // in small parts: the page has to breathe
      if (queue.length) queue = stillToCut(queue, roots);
      if (!queue.length) queue = cellsToCut(roots, resting);
      return queue.length ? queue.splice(0, count) : null;
    },
  };
}

// What is known of z for one image and one decoder, ever finer. `changed` is called when more is known.
function makeBelief({ sizes, weights }, changed) {
  const service = makeService(sizes, weights);
  const seen = new Uint8Array(PIXELS);
  const roots = [];
  const queue = makeQueue(roots);
  let [count, room, told, resting, question] = [0, PATCHES, 0, false, null];

  function take(places, decoded) {
    places.forEach((place, i) => plant(roots, place, makePatch(place, decoded[i], seen)));
    count += places.length;
    belief.version++;
    work();
    if (count > ROOTS ** 2 && !service.free() && performance.now() - told < PAINT_EVERY) return;
    told = performance.now();
    changed();
  }

  function work() {
    if (!service.free()) return;
    if (question) {
      const { points, then } = question;
      question = null;
      return service.ask(points, (decoded) => (then(decoded), work()), resting);
    }
    const places = queue.next(service.size(), resting);
    if (places) service.ask(places.map(pointsOf), (decoded) => take(places, decoded), resting);
  }

  const belief = {
    roots,
    version: 0,
    ready: () => roots.length === ROOTS ** 2,
    settled: () => belief.ready() && resting && service.free(),
    see(image) {
      const changes = changesBetween(seen, image);
      if (!changes.length) return;
      seen.set(image);
      everyPatch(roots, (patch) => shift(patch, changes));
      queue.forget();
      if (count > room && belief.ready()) {
        count = prune(roots);
        room = Math.max(PATCHES, 1.3 * count); // not at each stroke, where many are needed
      }
      belief.version++;
    },
    rest(now) {
      if (resting !== now) queue.forget();
      resting = now;
      work();
    },
    ask: (points, then) => ((question = { points, then }), work()),
    release: service.release,
  };
  work();
  return belief;
}

// The ELBO of one image, in nats, with the mean under q(z|x) by quadrature, as in exact.py.
function quadraturePoints({ mean, logvar }) {
  const all = NODES.flatMap((v) => NODES.flatMap((u) => [u, v])).map(
    (node, i) => mean[i & 1] + Math.exp(logvar[i & 1] / 2) * node,
  );
  return [0, 32, 64, 96].map((start) => Float32Array.from(all.slice(start, start + 32)));
}

function elboOf(image, { mean, logvar }, decoded) {
  let sum = 0;
  decoded.forEach(({ logits, offset }, part) => {
    for (let k = 0; k < 16; k++) {
      let log = offset[k];
      for (let i = 0; i < PIXELS; i++) if (image[i]) log += (image[i] / 255) * logits[16 * i + k];
      const node = 16 * part + k;
      sum += NODE_WEIGHTS[node & 7] * NODE_WEIGHTS[node >> 3] * log;
    }
  });
  return sum - 0.5 * [0, 1].reduce((kl, i) => kl + mean[i] ** 2 + Math.exp(logvar[i]) - 1 - logvar[i], 0);
}

// No model of independent pixels can have -log p(x) below the entropy of the image's own pixels, in nats.
function floorOf(image) {
  const part = (p) => (p > 0 ? -p * Math.log(p) : 0);
  return image.reduce((sum, grey) => sum + part(grey / 255) + part(1 - grey / 255), 0);
}

// The smallest set of cells of level 1 with 99 % of the posterior, in parts that hang together, the heaviest first.
function islandsOf(roots, { top, mass }) {
  const n = DEPTH[1];
  const share = new Float64Array(n * n);
  everyLeaf(roots, (patch, k) => {
    const [column, row] = columnAndRow(cellOf(patch, k));
    share[row * n + column] += (Math.exp(patch.joint[k] - top) * patch.side ** 2) / mass;
  });
  const order = [...share.keys()].filter((i) => share[i] > 1e-6).sort((a, b) => share[b] - share[a]);
  let held = 0;
  const left = new Set(order.filter((i) => (held += share[i]) - share[i] < 0.99));
  const islands = [];
  for (const start of left) {
    const island = { share: 0, point: [0, 0] };
    const open = [start];
    left.delete(start);
    for (const i of open) {
      const [column, row] = [i % n, Math.floor(i / n)];
      island.share += share[i];
      [column, row].forEach((v, axis) => (island.point[axis] += share[i] * ((v + 0.5) * sideAt(1) - HALF_WIDTH)));
      for (const [right, up] of AROUND)
        if (column + right >= 0 && column + right < n && left.delete(i + right + up * n)) open.push(i + right + up * n);
    }
    islands.push({ share: island.share, point: island.point.map((v) => v / island.share) });
  }
  return islands.sort((a, b) => b.share - a.share);
}

function shareInEllipse(roots, { top, mass }, { mean, logvar }) {
  let sum = 0;
  everyLeaf(roots, (patch, k) => {
    const far = cellOf(patch, k).reduce((d, v, axis) => d + (v - mean[axis]) ** 2 / Math.exp(logvar[axis]), 0);
    if (far <= 4) sum += Math.exp(patch.joint[k] - top) * patch.side ** 2;
  });
  return sum / mass;
}

function shareAtBorder(roots, { top, mass }) {
  let sum = 0;
  everyLeaf(roots, (patch, k) => {
    if (cellOf(patch, k).some((v) => Math.abs(v) > HALF_WIDTH - sideAt(1)))
      sum += Math.exp(patch.joint[k] - top) * patch.side ** 2;
  });
  return sum / mass;
}

// The density as a picture: each cell darker by the logarithm of its density, SHOWN_NATS below the peak invisible.
function makeShade() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SHADE;
  const context = canvas.getContext("2d");
  const picture = new ImageData(SHADE, SHADE);
  const pixels = new Uint32Array(picture.data.buffer);
  let inked = null;
  return {
    paint(roots, top) {
      pixels.fill(0);
      everyPatch(roots, (patch) => {
        if (patch.level > 2) return; // smaller than a pixel
        const side = SHADE / DEPTH[patch.level];
        for (let k = 0; k < 16; k++) {
          const level = 1 - (top - patch.joint[k]) / SHOWN_NATS;
          if (!(level > 0) || (patch.cells[k] && patch.level < 2)) continue;
          const [x, y] = cellOf(patch, k);
          const column = Math.round(((x + HALF_WIDTH) / (2 * HALF_WIDTH)) * SHADE - side / 2);
          const row = Math.round(((HALF_WIDTH - y) / (2 * HALF_WIDTH)) * SHADE - side / 2);
          const ink = Math.round(255 * level) * 2 ** 24; // alpha alone
          for (let r = row; r < row + side; r++) pixels.fill(ink, r * SHADE + column, r * SHADE + column + side);
        }
      });
      inked = null;
    },
    in(ink) {
      if (inked === ink) return canvas;
      context.putImageData(picture, 0, 0);
      context.globalCompositeOperation = "source-in";
      context.fillStyle = ink;
      context.fillRect(0, 0, SHADE, SHADE);
      context.globalCompositeOperation = "source-over";
      inked = ink;
      return canvas;
    },
  };
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
    label: (text) => canvas.setAttribute("aria-label", text),
  };
}

// What a screen reader hears once point and pen have rested: `say` replaces what waits, `add` follows it.
function makeSpeaker(element) {
  let [speaking, waiting] = [0, ""];
  const hush = () => (clearTimeout(speaking), (waiting = ""));
  const say = (text) => {
    hush();
    waiting = text;
    speaking = setTimeout(() => ((element.textContent = text), (waiting = "")), SPEAK_AFTER);
  };
  return { say, add: (text) => say(`${waiting} ${text}`.trim()), hush };
}

function makeReadout($, garment, state, speaker) {
  let said = "";
  return {
    show({ position, nearest, prior }) {
      for (const [name, value] of Object.entries({ position, nearest, prior })) $(`.${name}`).textContent = value;
      garment.label(`Decoded garment at z = ${position}, nearest class ${nearest}`);
      const news = state.moved && position !== said; // the pen is not talked over by a point that stays
      if (news) speaker.say(`z = ${position}. Nearest class ${nearest} codes. ${prior}.`);
      said = position;
    },
  };
}

// The pen.

// The pixels whose middles a brush covers, and the one below its middle; x and y in pixels.
function footprint([x, y], width) {
  const covered = [];
  const radius = width / 2;
  const from = (v) => Math.max(0, Math.floor(v - radius));
  const to = (v) => Math.min(SIDE - 1, Math.floor(v + radius));
  for (let row = from(y); row <= to(y); row++)
    for (let column = from(x); column <= to(x); column++) {
      const below = column === Math.floor(x) && row === Math.floor(y);
      if (below || (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= radius ** 2) covered.push(row * SIDE + column);
    }
  return covered;
}

// The image that is drawn: bytes, 0 for white paper, 255 for ink. `changed` is called after each stroke's every part.
function makePad(canvas, tool, changed) {
  const small = document.createElement("canvas");
  small.width = small.height = SIDE;
  const picture = small.getContext("2d").createImageData(SIDE, SIDE);
  const scale = canvas.width / SIDE;
  const past = [];
  const pad = {
    canvas,
    image: new Uint8Array(PIXELS),
    cursor: [SIDE / 2, SIDE / 2],
    holds: (image) => image?.every((grey, i) => grey === pad.image[i]),
    begin() {
      if (pad.holds(past.at(-1))) return; // the last stroke changed nothing
      past.push(pad.image.slice());
      if (past.length > UNDO) past.shift();
    },
    stroke([x0, y0], [x1, y1], erase = tool.erase) {
      const steps = Math.max(1, Math.ceil(2 * Math.hypot(x1 - x0, y1 - y0)));
      for (let step = 0; step <= steps; step++) {
        const point = [x0 + ((x1 - x0) * step) / steps, y0 + ((y1 - y0) * step) / steps];
        for (const pixel of footprint(point, tool.width)) pad.image[pixel] = erase ? 0 : tool.grey;
      }
      changed();
    },
    load(image) {
      if (pad.holds(image)) return;
      pad.begin();
      pad.image.set(image);
      changed();
    },
    undo() {
      while (pad.holds(past.at(-1))) past.pop(); // strokes that changed nothing
      if (!past.length) return;
      pad.image.set(past.pop());
      changed();
    },
    paint(showsCursor) {
      pad.image.forEach((grey, i) => picture.data.set([255 - grey, 255 - grey, 255 - grey, 255], 4 * i));
      small.getContext("2d").putImageData(picture, 0, 0);
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, canvas.width, canvas.height);
      if (!showsCursor) return;
      const corner = pad.cursor.map((v) => Math.floor(v) * scale);
      context.strokeStyle = "#fff";
      context.lineWidth = 5;
      context.strokeRect(...corner, scale, scale);
      context.strokeStyle = "#1d63ad";
      context.lineWidth = 2.5;
      context.strokeRect(...corner, scale, scale);
    },
    pointAt: (event) => shareOf(canvas, event).map((share) => share * SIDE),
  };
  return pad;
}

function listenToPad(on, pad) {
  const { canvas } = pad;
  let last = null;
  on(canvas, "pointerdown", (event) => {
    const eraser = event.button === 5; // of a stylus
    if (!event.isPrimary || (event.button && !eraser)) return;
    canvas.setPointerCapture(event.pointerId);
    last = { point: pad.pointAt(event), erase: eraser || undefined };
    pad.cursor = last.point.map((v) => Math.max(0, Math.min(SIDE - 0.5, v)));
    pad.begin();
    pad.stroke(last.point, last.point, last.erase);
  });
  on(canvas, "pointermove", (event) => {
    if (!last || !canvas.hasPointerCapture(event.pointerId)) return;
    const point = pad.pointAt(event);
    pad.stroke(last.point, point, last.erase);
    last.point = point;
  });
  on(canvas, "lostpointercapture", () => (last = null));
}

function listenToPadKeys(on, pad, tools, say) {
  on(pad.canvas, "keydown", (event) => {
    const key = event.key.toLowerCase();
    const undoing = isCommand(event) ? key === "z" && !event.shiftKey && !event.altKey : key === "u";
    if (isCommand(event) && !undoing) return;
    const direction = ARROWS[event.key];
    const middle = pad.cursor.map((v) => Math.floor(v) + 0.5);
    if (direction) {
      const next = [middle[0] + direction[0], middle[1] - direction[1]];
      pad.cursor = next.map((v) => Math.max(0.5, Math.min(SIDE - 0.5, v)));
      if (event.shiftKey) {
        pad.begin();
        pad.stroke(middle, pad.cursor);
      }
      say(aboutCursor(pad));
    } else if (key === " " || key === "enter") {
      pad.begin();
      pad.stroke(middle, middle);
      say(aboutCursor(pad));
    } else if (undoing) pad.undo();
    else if (key === "b" || key === "e") say(tools.take(key === "e"));
    else return;
    event.preventDefault();
    event.stopPropagation(); // of the notebook's shortcuts, Ctrl+Z among them
  });
}

function aboutCursor({ image, cursor }) {
  const [column, row] = cursor.map(Math.floor);
  return `Row ${row + 1}, column ${column + 1}, ink ${Math.round(image[row * SIDE + column] / 2.55)} %.`;
}

// Brush, eraser, ink and width.
function makeTools($, on) {
  const tool = { erase: false, grey: 204, width: 3 };
  const tools = {
    tool,
    take(erase) {
      tool.erase = erase;
      $(".brush").setAttribute("aria-pressed", !erase);
      $(".eraser").setAttribute("aria-pressed", erase);
      return erase ? "Eraser." : "Brush.";
    },
  };
  on($(".brush"), "click", () => tools.take(false));
  on($(".eraser"), "click", () => tools.take(true));
  on($(".ink"), "input", () => (tool.grey = Math.round(2.55 * $(".ink").value)));
  on($(".width"), "input", () => (tool.width = +$(".width").value));
  return tools;
}

// Images to start from, in the groups that Python named: "Typical: Sneaker, image 12".
function makeStarts(select, on, { images, imageNames }, pad) {
  const own = new Option("what is on the pad", "own");
  own.hidden = own.disabled = true; // it is no start
  select.append(own, new Option("an empty pad", "", true, true));
  const groups = new Map();
  imageNames.forEach((name, i) => {
    const [group, text] = name.includes(": ") ? name.split(": ") : ["Images", name];
    if (!groups.has(group)) {
      groups.set(group, document.createElement("optgroup"));
      groups.get(group).label = group;
      select.append(groups.get(group));
    }
    groups.get(group).append(new Option(text, i));
  });
  let [value, chosen] = ["", pad.image.slice()];
  on(select, "change", () => {
    value = select.value;
    const start = value === "" ? -1 : +value * PIXELS;
    chosen = start < 0 ? new Uint8Array(PIXELS) : images.slice(start, start + PIXELS);
    pad.load(chosen);
  });
  return {
    // None is chosen while the pad holds something else: so the same one can be chosen again.
    check() {
      select.value = pad.holds(chosen) ? value : pad.image.some(Boolean) ? "own" : "";
    },
  };
}

// What is found, in words.

const nats = (value) => `${signed(value)} nats`;

function sayIslands(islands, data) {
  const where = ({ point }) => `around ${pair(point)}, where the nearest codes are ${nearest(point, data)}`;
  const told = islands.filter(({ share }) => share >= 0.01).slice(0, 3);
  if (told.length === 1) return `The posterior is one island ${where(told[0])}.`;
  const parts = told.map((island) => `${Math.round(100 * island.share)} % ${where(island)}`);
  return `The posterior has ${islands.length} islands: ${parts.join("; ")}.`;
}

function sayEncoder({ code, elbo, gap, covered }) {
  if (!code) return "This decoder has no encoder: no ellipse, no ELBO, no gap. Its posterior is computed, not guessed.";
  const widths = code.logvar.map((v) => Math.exp(v / 2).toFixed(3)).join(" and ");
  return (
    `The encoder says ${pair(code.mean)} with standard deviations ${widths}: its ellipse holds ` +
    `${Math.round(100 * covered)} % of the posterior, of 86 % if q were exact. ELBO ${nats(elbo)}, gap ${nats(gap)}.`
  );
}

function sayBelief(found, data) {
  const { roots, weight, image, islands } = found;
  const empty = image.every((grey) => !grey) ? "The pad is empty, a white image. " : "";
  const covered = found.code && shareInEllipse(roots, weight, found.code);
  const border = shareAtBorder(roots, weight);
  const outside = `${Math.round(100 * border)} % of it lies at the border of the square, so log p(x) is too low. `;
  return (
    `${empty}log p(x) ${nats(weight.logP)}, the image’s floor ${nats(floorOf(image))}. ` +
    `${sayIslands(islands, data)} ${border > 0.05 ? outside : ""}${sayEncoder({ ...found, covered })}`
  );
}

// The ELBO takes 64 points to decode: it comes a little later, for the last image that was asked about.
function makeElbo(changed) {
  let asking = false;
  let answer = null;
  return {
    of(belief, { image, code, weight }) {
      const mine = answer?.belief === belief;
      const current = mine && answer.image.every((grey, i) => grey === image[i]);
      if (!current && !asking) {
        asking = true;
        const asked = { belief, image: image.slice(), logP: weight.logP };
        belief.ask(quadraturePoints(code), (decoded) => {
          asking = false;
          answer = { ...asked, elbo: elboOf(asked.image, code, decoded) };
          changed();
        });
      }
      if (!mine) return { current };
      return { current, elbo: answer.elbo, gap: (current ? weight.logP : answer.logP) - answer.elbo };
    },
    last: () => answer,
    forget: () => ([asking, answer] = [false, null]),
  };
}

const FOUND = ["log-p", "floor", "elbo", "gap", "mean", "top"]; // the numbers

function showFound($, pictures, data, { weight, code, peak, elbo, gap, image }) {
  const guess = (value) => (code ? (value === undefined ? "…" : nats(value)) : "none without an encoder");
  const texts = { "log-p": nats(weight.logP), floor: nats(floorOf(image)), top: pair(peak) };
  Object.assign(texts, { mean: code ? pair(code.mean) : "no encoder", elbo: guess(elbo), gap: guess(gap) });
  for (const [name, text] of Object.entries(texts)) $(`.${name}`).textContent = text;
  if (code) pictures[0].paint(data.decode(code.mean));
  pictures[1].paint(logitsOf(weight.best)); // decoded already
  $(".code").hidden = !code;
}

// The posterior of what is on the pad, and what is shown of it.
function makeInference($, data, pad, changed) {
  const beliefs = new Map(); // one of each decoder that was used
  const shade = makeShade();
  const pictures = [".at-code", ".at-peak"].map((name) => makeGarment($(name)));
  const elbo = makeElbo(changed);
  let [painted, found] = ["", {}];

  function belief() {
    if (!beliefs.has(data.decode)) beliefs.set(data.decode, makeBelief(data, changed));
    return beliefs.get(data.decode);
  }

  return {
    shade,
    get found() {
      return found;
    },
    warm: belief,
    rest: () => belief().rest(true),
    pause: () => beliefs.forEach((each) => each.rest(false)),
    settled: () => belief().settled() && Boolean(found.current),
    update() {
      const image = pad.image;
      belief().see(image);
      if (!belief().ready()) return;
      const { roots, version } = belief();
      const answer = elbo.last();
      if (painted.roots === roots && painted.version === version && painted.answer === answer) return;
      painted = { roots, version, answer };
      const weight = weigh(roots);
      const code = data.encode?.(image);
      found = { roots, weight, image, code, peak: weight.peak, current: true };
      if (code) Object.assign(found, elbo.of(belief(), found));
      shade.paint(roots, weight.top);
      showFound($, pictures, data, found);
    },
    blank() {
      [painted, found] = ["", {}];
      shade.paint([]);
      for (const name of FOUND) $(`.${name}`).textContent = "…";
    },
    forget() {
      beliefs.forEach((old) => old.release());
      beliefs.clear();
      elbo.forget();
      [painted, found] = ["", {}];
    },
  };
}

// What was found, in words and for Python, once it changes no more.
function makeVoice($, model, data, inference, speaker) {
  function tell(found) {
    const { weight, code, elbo, peak, image, islands } = found;
    const decoder = data.decoders[data.chosen].name;
    const told = { decoder, log_p: weight.logP, floor: floorOf(image), peak, ...code, ...(code && { elbo }) };
    told.islands = islands.map(({ share, point }) => [share, ...point]);
    $(".explorer").dataset.found = JSON.stringify(told);
    model.set("found", told);
    if (model.get("drawing") || image.some(Boolean)) model.set("drawing", btoa(String.fromCharCode(...image)));
    model.save_changes();
  }
  return {
    speak() {
      if (!inference.settled()) return;
      const { found } = inference;
      if (!found.islands) {
        found.islands = islandsOf(found.roots, found.weight);
        $(".words").textContent = sayBelief(found, data);
        tell(found);
        speaker.add($(".words").textContent);
      }
      $(".explorer").dataset.settled = true;
    },
    hush() {
      $(".explorer").dataset.settled = false;
      speaker.hush();
    },
  };
}

function listenToPen($, on, pad, tools, speaker, frame) {
  listenToPad(on, pad);
  listenToPadKeys(on, pad, tools, speaker.say);
  for (const name of ["focus", "blur", "keydown"]) on(pad.canvas, name, frame.ask);
  on($(".undo"), "click", pad.undo);
  on($(".clear"), "click", () => pad.load(new Uint8Array(PIXELS)));
}

// The second mode: a pad, its posterior, and both in words when the pen rests.
function makePen($, on, model, data, frame, speaker) {
  let [resting, active] = [0, false];
  const tools = makeTools($, on);
  const pad = makePad($(".pad"), tools.tool, changed);
  const inference = makeInference($, data, pad, frame.ask);
  const voice = makeVoice($, model, data, inference, speaker);
  const starts = makeStarts($(".start"), on, data, pad);

  const pause = () => (clearTimeout(resting), inference.pause());

  function changed() {
    starts.check();
    voice.hush();
    pause();
    resting = setTimeout(() => {
      inference.rest();
      frame.ask();
    }, REST);
    frame.ask();
  }

  const pen = {
    shade: inference.shade,
    warm: inference.warm,
    get active() {
      return active;
    },
    get found() {
      return inference.found;
    },
    show(now) {
      active = now;
      if (active) changed();
      else pause();
    },
    draw() {
      if (!active) return;
      pad.paint($(".explorer").getRootNode().activeElement === pad.canvas);
      inference.update();
      voice.speak();
    },
    blank: inference.blank,
    learn() {
      inference.forget();
      if (active) changed();
    },
    take() {
      const drawing = bytes(model.get("drawing") ?? "");
      if (drawing.length === PIXELS) pad.load(drawing);
    },
    release() {
      clearTimeout(resting);
      voice.hush();
      inference.forget();
    },
  };
  listenToPen($, on, pad, tools, speaker, frame);
  return pen;
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

const THEMED = ["class", "theme", "data-jp-theme-light", "data-jp-theme-name", "data-vscode-theme-kind"];

function watchSurroundings(on, map, refresh) {
  const resized = () => map.fits() || refresh();
  const shown = new ResizeObserver(resized);
  const themed = new MutationObserver(refresh);
  for (const element of [document.documentElement, document.body])
    themed.observe(element, { attributeFilter: THEMED });
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

// Which mode, and whose decoder.
function makeModes($, root, on, data, pen, walker, refresh) {
  const explain = () =>
    ($(".legend").textContent =
      "Shade: the logarithm of p(z|x), down to 10 nats below its peak, the diamond. " +
      (data.encode ? "Ellipse: the encoder’s q(z|x), two standard deviations." : "No encoder, so no ellipse."));
  const modes = {
    draw(now) {
      $(".explorer").dataset.mode = now ? "draw" : "drag";
      for (const element of root.querySelectorAll(".drawing")) element.hidden = !now;
      $(".buttons").hidden = now;
      walker.stop();
      $(".to-drag").setAttribute("aria-pressed", !now);
      $(".to-draw").setAttribute("aria-pressed", now);
      pen.show(now);
      refresh();
    },
    offer() {
      const { decoders } = data;
      $(".modes").hidden = !data.penned;
      $(".which").hidden = decoders.length < 2;
      explain();
      $(".decoder").replaceChildren(...decoders.map(({ name }, i) => new Option(name, i)));
      $(".decoder").value = data.chosen;
    },
  };
  on($(".to-drag"), "click", () => modes.draw(false));
  on($(".to-draw"), "click", () => modes.draw(true));
  on($(".decoder"), "change", () => {
    data.use(+$(".decoder").value);
    explain();
    pen.blank(); // what was found is the other decoder's
    pen.show(pen.active);
    refresh();
  });
  modes.offer();
  return modes;
}

// Python sends new weights and codes while it trains, and images to draw on; it may be too busy to listen.
function followPython(model, data, pen, modes, refresh) {
  let waiting = 0;
  const learn = () => {
    clearTimeout(waiting); // weights, codes and labels come one after the other
    waiting = setTimeout(() => {
      data.read();
      modes.offer();
      pen.learn();
      refresh();
    });
  };
  const take = () => {
    pen.take();
    if (!pen.active && data.penned) modes.draw(true);
  };
  const learned = ["weights", "codes", "labels"].map((name) => `change:${name}`);
  learned.forEach((name) => model.on(name, learn));
  model.on("change:drawing", take);
  if (model.get("drawing") && data.penned) take();
  return {
    release() {
      clearTimeout(waiting);
      learned.forEach((name) => model.off(name, learn));
      model.off("change:drawing", take);
    },
  };
}

function listenToKeys(on, root, walker) {
  on(root, "keydown", (event) => {
    if (event.key === "Escape") walker.stop();
    if (!isCommand(event)) event.stopPropagation(); // classic Notebook's shortcuts
  });
}

function render({ model, el, ownPage = false }) {
  const host = makeHost(el);
  const root = host.shadowRoot;
  const $ = (selector) => root.querySelector(selector);
  const listening = new AbortController();
  const on = (target, name, listener) => target.addEventListener(name, listener, { signal: listening.signal });

  const data = readData(model);
  const frame = makeFrame(draw);
  const state = makeState(model, data.limit, frame.ask, () => walker.stop());
  const speaker = makeSpeaker($(".spoken"));
  const pen = makePen($, on, model, data, frame, speaker);
  const map = makeMap($(".map"), data.limit, mapLayers(data, state, pen));
  const garment = makeGarment($(".garment"));
  const readout = makeReadout($, garment, state, speaker);
  const walker = makeWalker($(".play"), state);
  let painted = {};
  const sliders = makeSliders([...root.querySelectorAll(".sliders input")], data.limit, on, state, move);

  function move(z) {
    walker.stop();
    state.put(z);
  }

  function draw() {
    const { z } = state;
    if (painted.at !== `${z}` || painted.decode !== data.decode) garment.paint(data.decode(z));
    painted = { at: `${z}`, decode: data.decode }; // while the pen moves, this garment stays
    pen.draw();
    map.draw();
    sliders.show(z);
    readout.show(describe(z, data));
  }

  function refresh() {
    $(".explorer").dataset.theme = isDark(ownPage) ? "dark" : "light";
    map.fit(); // where it is hidden to no size at all, so that it is painted anew once it is shown
    if (map.canvas.clientWidth) frame.ask();
  }

  listenToMap(on, map, state, move);
  listenToButtons(on, $, state, walker, move);
  listenToKeys(on, root, walker);
  if (ownPage && data.penned) pen.warm();
  refresh();
  const observers = watchSurroundings(on, map, refresh);
  const follower = followPython(model, data, pen, makeModes($, root, on, data, pen, walker, refresh), refresh);
  return () => {
    walker.stop();
    listening.abort();
    observers.forEach((observer) => observer.disconnect());
    speaker.hush();
    [state, pen, follower].forEach((part) => part.release());
    frame.cancel();
    host.remove();
  };
}

// Show the explorer on a page of its own: `state` holds what the widget's traits would.
function mount(el, state) {
  const listeners = new Map();
  const to = (name) => listeners.get(name) ?? listeners.set(name, new Set()).get(name);
  const model = {
    get: (name) => state[name],
    set: (name, value) => ((state[name] = value), to(`change:${name}`).forEach((listener) => listener())),
    on: (name, listener) => to(name).add(listener),
    off: (name, listener) => to(name).delete(listener),
    save_changes() {},
  };
  return render({ model, el, ownPage: true });
}

export default { render, mount };
