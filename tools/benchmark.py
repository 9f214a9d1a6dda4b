"""Measure the series on this machine: python tools/benchmark.py [usual] [quality] [recipe] [limit] [growth] ...

usual      one epoch of the usual recipe and one of helpers.fit, the same network, in turns; --full adds the test NELBO
quality    the usual recipe for --epochs, and the short form that 03 names, which reaches a lower test NELBO
recipe     the recipe of notebook 03: seconds of training and test NELBO, once for each of --seeds
gpu        the same on a CUDA GPU, where there is one, and apart from it what the first step there costs
limit      the matrix products of one epoch of the recipe, nothing else, as a share of the epoch in helpers.fit
growth     an epoch of helpers.fit with more images, wider layers and more latent dimensions
inference  the exact likelihood of the test images, the codes of all images, a grid of decoded ones
start      importing helpers and then loading the data, each time in a new process, from a warm disk cache
notebooks  wall time and peak memory of each notebook, executed in full into a temporary folder
explorer   JupyterLab in a headless Chromium: from the browser's time stamp of an input event to the end of the frame in
           which the page drew its garment (the compositor and the screen come after that); ipywidgets' interact too
The rows that the README quotes are in tools/benchmark.json, which --json writes.
All the rest runs on the CPU. Close other programs first: the load that is printed is part of the result. Linux, macOS.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import exact
import helpers
import storage
from explorer import latent_explorer

ROOT = storage.ROOT

START = """from time import perf_counter as now; begin = now(); import helpers
imported = now(); helpers.load_fashion_mnist("train"); print(imported - begin, now() - imported)"""
INTERACT = """%matplotlib inline
import ipywidgets, matplotlib.pyplot as plt
def show(z1, z2):
    plt.figure(figsize=(3, 3))
    plt.imshow(helpers.decode(model, torch.tensor([[z1, z2]])).view(28, 28), cmap="gray_r")
    plt.show()
_ = ipywidgets.interact(show, z1=(-4.0, 4.0, 0.1), z2=(-4.0, 4.0, 0.1))"""
TIMES = ROOT / "tools" / "times.js"  # counts in the page
SHORT = {"batch_size": 64, "max_lr": 4e-3}  # the short form of the recipe, as notebook 03 names it
output = partial(subprocess.check_output, cwd=ROOT, text=True)


class UsualVAE(nn.Module):  # the network of most tutorials, 784-400-2-400-784, with the interface that fit needs
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 4))
        self.decoder = nn.Sequential(nn.Linear(2, 400), nn.ReLU(), nn.Linear(400, 784))

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return self.decoder(mu + torch.exp(logvar / 2) * torch.randn_like(mu)), mu, logvar


def train_usually(seed: int, epochs: int, images: int) -> tuple[nn.Module, float]:
    """Return the model and the seconds; nothing is validated, while the seconds of `fit` include its validation."""
    torch.manual_seed(seed)
    dataset = datasets.FashionMNIST(storage.fetch_fashion_mnist(), transform=transforms.ToTensor())
    loader = DataLoader(Subset(dataset, range(images)), batch_size=128, shuffle=True)
    model = UsualVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    begin = time.perf_counter()
    for _ in range(epochs):
        for batch, _ in loader:
            x = batch.view(-1, 784)
            logits, mu, logvar = model(x)
            recon = F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")
            loss = recon - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model, time.perf_counter() - begin


def train_by_fit(
    network: type, seed: int, epochs: int, images: int, device: str = "cpu", **recipe
) -> tuple[nn.Module, float]:
    torch.manual_seed(seed)
    x, x_val = helpers.load_fashion_mnist("train")[0][:images], helpers.load_fashion_mnist("validation")[0]
    model = network().to(device)
    begin = time.perf_counter()
    helpers.fit(model, x, x_val, epochs, **recipe, progress=False)
    return model, time.perf_counter() - begin


def nelbo_of(model: nn.Module) -> float:
    return sum(helpers.evaluate(model, helpers.load_fashion_mnist("test")[0])).mean().item()


def products_of_one_epoch(model: nn.Module, images: int, batch: int = 128) -> float:
    """Return the seconds that PyTorch takes for the matrix products alone, forward and backward, of one epoch."""
    products = []
    for i, layer in enumerate(layer for layer in model.modules() if isinstance(layer, nn.Linear)):
        x, g = torch.randn(batch, layer.in_features), torch.randn(batch, layer.out_features)
        weight = layer.weight.detach()
        products += [(x, weight.T), (g.T, x)] + [(g, weight)] * (i > 0)  # nobody wants the gradient of the images
    begin = time.perf_counter()
    for _ in range(images // batch):
        for a, b in products:
            torch.mm(a, b)
    return time.perf_counter() - begin


def row(what: str, values, unit: str, wanted: str = "", summary=statistics.median) -> dict:
    return {"what": what, "value": summary(values), "unit": unit, "wanted": wanted, "values": list(values)}


def full_runs(name: str, train, options, wanted=("", "")):
    runs = [train(seed, options.epochs, options.images) for seed in options.seeds]
    yield row(f"{name}, {options.epochs} epochs", [seconds for _, seconds in runs], "s", wanted[0])
    nelbos = [nelbo_of(model) for model, _ in runs]
    yield row(f"{name}, mean test NELBO", nelbos, "nats", wanted[1], statistics.mean)


def usual(options):
    recipes = {"usual recipe": train_usually, "same network, helpers.fit": partial(train_by_fit, UsualVAE)}
    turns = [[train(i, 1, options.images)[1] for train in recipes.values()] for i in range(options.repeats)]
    slow, fast = (row(name, seconds, "s/epoch") for name, seconds in zip(recipes, zip(*turns)))
    yield from (slow, fast, row("usual recipe / helpers.fit", [slow["value"] / fast["value"]], "times", ">= 2"))
    for name, train in recipes.items() if options.full else ():
        yield from full_runs(name, train, options)


def quality(options):
    slow, nelbos = [], []
    for seed in options.seeds:
        model, seconds = train_usually(seed, options.epochs, options.images)
        slow.append(seconds)
        nelbos.append(nelbo_of(model))
    yield row(f"usual recipe, {options.epochs} epochs", slow, "s")
    yield row("usual recipe, test NELBO", nelbos, "nats", summary=statistics.mean)
    runs = [train_by_fit(helpers.VAE, i, 1, options.images, **SHORT) for i in range(options.repeats)]
    fast = row("short form of 03, one epoch", [seconds for _, seconds in runs], "s")
    short = row("short form of 03, test NELBO", [nelbo_of(model) for model, _ in runs], "nats", summary=statistics.mean)
    yield from (fast, short)
    if max(short["values"]) <= min(nelbos):
        yield row("usual recipe / short form", [statistics.median(slow) / fast["value"]], "times", ">= 8")


def gpu(options):
    if not torch.cuda.is_available():
        return print("gpu: no CUDA GPU here, nothing measured")
    train, name = partial(train_by_fit, helpers.VAE, device="cuda"), torch.cuda.get_device_name()
    yield row(f"first step on {name}", [train(0, 1, 128)[1]], "s")  # CUDA loads its kernels
    yield from full_runs(f"recipe of 03 on {name}", train, options, wanted=("<= 1", "<= 254.5"))


def limit(options):
    runs = []
    for seed in range(options.repeats):
        products = products_of_one_epoch(helpers.VAE(), options.images)
        runs.append((products, train_by_fit(helpers.VAE, seed, 1, options.images)[1]))
    products, epoch = zip(*runs)
    yield row("epoch, helpers.fit", epoch, "s/epoch")
    yield row("its products alone", products, "s")
    yield row("products / epoch", [a / b for a, b in zip(products, epoch)], "", ">= 0.6")


def growth(options):
    def epoch_of(name, network, images):
        return row(name, [train_by_fit(network, i, 1, images)[1] for i in range(options.repeats)], "s/epoch")

    for images in (10_000, 20_000, 40_000, 55_000):
        yield epoch_of(f"{images} images", helpers.VAE, images)
    for width in (128, 512):
        yield epoch_of(f"20000 images, width {width}", partial(helpers.VAE, hidden=(width,) * 4), 20_000)
    for latent_dim in (20, 200):  # 2 is above: the 20,000 images
        yield epoch_of(f"20000 images, {latent_dim} dimensions", partial(helpers.VAE, latent_dim), 20_000)


def inference(options):
    model, x = helpers.load_vae(helpers.REFERENCE), helpers.load_fashion_mnist("test")[0]
    every = torch.cat([x, *(helpers.load_fashion_mnist(split)[0] for split in ("train", "validation"))])
    grid = torch.cartesian_prod(torch.linspace(-3, 3, 15), torch.linspace(-3, 3, 15))
    for name, work, unit, factor in (
        ("exact log p(x), 10,000 images", lambda: exact.log_likelihood(model, x), "s", 1),
        ("encode 70,000 images", lambda: helpers.encode(model, every), "s", 1),
        ("decode a grid of 15 x 15", lambda: helpers.decode(model, grid), "ms", 1000),
    ):
        seconds = []
        for _ in range(options.repeats):
            begin = time.perf_counter()
            work()
            seconds.append(factor * (time.perf_counter() - begin))
        yield row(name, seconds, unit)


def start(options):
    runs = [map(float, output([sys.executable, "-c", START]).split()) for _ in range(options.repeats)]
    imports, loads = zip(*runs)
    yield from (row("import helpers", imports, "s"), row("first load_fashion_mnist", loads, "s", "<= 2"))


def notebooks(options):
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(ROOT.glob("notebooks/*.ipynb")):
            begin = time.perf_counter()
            peak = output([sys.executable, ROOT / "tools" / "peak.py", path], env={**os.environ, "VAE_OUTPUT": folder})
            yield row(path.stem, [time.perf_counter() - begin], "s")
            yield row(f"{path.stem}, peak memory", [int(peak) / 1e9], "GB", "<= 1.5")


def explorer(options):
    sys.path.insert(0, str(ROOT / "tests"))
    import test_explorer as parts  # needs pytest, and the browser needs playwright
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = parts.chromium(playwright)
        if browser is None:
            return print("explorer: no Chromium here, nothing measured")
        jupyter = parts.Jupyter(Path(folder), [*parts.CELLS[:2], INTERACT])
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.add_init_script(path=TIMES)
            jupyter.open(page)
            for cell in (0, 1):
                jupyter.run(page, cell)
            yield from measure_drag(page, parts.at, "explorer in JupyterLab")
            own = browser.new_page(viewport={"width": 1280, "height": 1000})
            own.add_init_script(path=TIMES)
            z, y = torch.randn(5000, 2), torch.arange(10).repeat(500)
            latent_explorer(helpers.load_vae(helpers.REFERENCE), z, y).save(f"{folder}/page.html")
            own.goto(Path(folder, "page.html").as_uri())
            yield from measure_drag(own, parts.at, "explorer as a page")
            own.close()
            jupyter.run(page, 2)
            page.locator(".noUi-handle").first.focus()
            page.evaluate("times.length = 0")
            for _ in range(30):
                page.keyboard.press("ArrowRight")
                page.wait_for_timeout(300)
            yield row("interact with matplotlib, event to paint", [quantile(page, 50)], "ms")
        finally:
            jupyter.close()


def measure_drag(page, at, name):
    page.locator("canvas.map").scroll_into_view_if_needed()
    (left, top), (right, bottom) = at(page, -3, 2), at(page, 3, -2)
    page.mouse.move(left, top)
    page.mouse.down()
    page.wait_for_timeout(300)
    for pause in (50, 12):  # moves one by one, for the times; then one a frame, for the frames
        page.evaluate("times.length = 0")
        if pause == 12:
            page.evaluate("countFrames()")  # not while times are taken: it keeps the page drawing
        for i in range(1, 61):
            page.mouse.move(left + i / 60 * (right - left), top + i / 60 * (bottom - top))
            page.wait_for_timeout(pause)
        if pause == 50:
            yield row(f"{name}, event to paint", [quantile(page, 50)], "ms", "<= 10")
            yield row(f"{name}, 95th percentile", [quantile(page, 95)], "ms", "<= 25")
    frames = page.evaluate("() => (counting = false, frameTimes)")
    page.mouse.up()
    late = sum(max(0, round((end - begin) * 60 / 1000) - 1) for begin, end in zip(frames, frames[1:]))
    yield row(f"{name}, frames dropped", [late], "", "<= 2")


def quantile(page, percent: int) -> float:
    return statistics.quantiles(page.evaluate("times"), n=100)[percent - 1]


def describe_machine() -> str:
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    cpu = next((line.split(": ")[1] for line in info.splitlines() if "model name" in line), platform.machine())
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    return f"{cpu} ({torch.backends.cpu.get_cpu_capability()}), {cores}, torch {torch.__version__}, {sys.platform}"


def main():
    recipe = partial(full_runs, "recipe of 03", partial(train_by_fit, helpers.VAE), wanted=("<= 60", "<= 254.5"))
    groups = {"usual": usual, "quality": quality, "recipe": recipe, "gpu": gpu, "limit": limit}
    groups |= {"growth": growth, "inference": inference, "start": start, "notebooks": notebooks, "explorer": explorer}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="group", choices=[*groups, "all"], default="all")
    parser.add_argument("--full", action="store_true", help="usual: train both in full too, for the test NELBO")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the full runs")
    parser.add_argument("--epochs", type=int, default=10, help="of the full runs")
    parser.add_argument("--repeats", type=int, default=3, help="of the short measurements, for their median")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows to FILE as well")
    parser.add_argument("--images", type=int, default=55_000, help=argparse.SUPPRESS)  # few, to try this script itself
    options = parser.parse_args()
    print(machine := describe_machine())
    rows = []
    for name in groups if "all" in options.groups else options.groups:
        for one in groups[name](options=options):
            rows.append(one)
            values = ", ".join(f"{value:.2f}" for value in one["values"]) if len(one["values"]) > 1 else ""
            print(f"{one['what']:42}{one['value']:9.2f} {one['unit']:8}{one['wanted']:10}{values}".rstrip(), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
