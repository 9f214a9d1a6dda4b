"""The latent explorer: a map of the latent plane, and the decoder of a VAE that runs in the reader's browser.

explorer.js is both the widget of a notebook and the script of the saved page; page.html is the rest of that page.
"""

import base64
import copy
import io
import json
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import torch
import traitlets
from torch import Tensor, nn

import storage
from figures import COLORS, LATENT_LIMIT, show_images, show_latent
from helpers import CLASSES, VAE, decode, plane_grid

try:
    import anywidget
except ImportError:  # the explorer then has sliders and no map
    anywidget = None

SHOWN = 5000  # codes on the explorer's map; more would only cover each other
SCRIPT, PAGE = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("explorer.js", "page.html"))


ALT = (
    "The explorer as a still picture. On the left the map, codes as dots in the colours of their classes, with names. "
    "On the right the garments that the decoder paints on an even grid from -3 to 3 in both directions."
)


class LatentExplorer(anywidget.AnyWidget if anywidget else ipywidgets.HBox):
    """A point z = (z1, z2) of the latent plane and its garment, moved by the reader and by `explorer.z = (1.0, -1.0)`.

    `latent_explorer` makes it. Raises traitlets.TraitError for a z outside the plane. Used in notebooks 04 and 05.
    """

    _esm = SCRIPT
    _ipython_display_ = None  # ipywidgets 7 would prefer it to _repr_mimebundle_
    still = b""  # a PNG for viewers that run no JavaScript
    z = traitlets.Tuple(traitlets.Float(), traitlets.Float(), default_value=(0.0, 0.0)).tag(sync=True)
    limit = traitlets.Float(LATENT_LIMIT).tag(sync=bool(anywidget))
    classes = traitlets.List(list(CLASSES)).tag(sync=bool(anywidget))
    colors = traitlets.List(list(COLORS)).tag(sync=bool(anywidget))
    sizes = traitlets.List().tag(sync=bool(anywidget))  # of the decoder's layers: 2, ..., 784
    weights = traitlets.Unicode().tag(sync=bool(anywidget))  # float16 in base64, as Colab drops binary buffers
    codes = traitlets.Unicode().tag(sync=bool(anywidget))  # the same
    labels = traitlets.Unicode().tag(sync=bool(anywidget))  # bytes in base64

    @traitlets.validate("z")
    def _check_z(self, proposal):
        if all(abs(value) <= LATENT_LIMIT for value in proposal.value):
            return proposal.value
        limits = f"[{-LATENT_LIMIT:g}, {LATENT_LIMIT:g}]"
        raise traitlets.TraitError(f"z: expected two numbers in {limits}, received {proposal.value}")

    def __repr__(self) -> str:
        return f"LatentExplorer(z={self.z})"

    def _repr_mimebundle_(self, **_) -> tuple[dict, dict]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        still = base64.b64encode(self.still).decode()
        data = {"application/vnd.jupyter.widget-view+json": view, "image/png": still, "text/plain": repr(self)}
        return data, {"image/png": {"alt": ALT}}

    def save(self, path: Path | str | None = None) -> Path:
        """Write the explorer as one page that needs no Python and no network, and return its path.

        `path` is images/latent_explorer.html unless another is given. The whole file is written or none of it: raises
        OSError when it cannot be, and an older file at `path` then stays as it was.
        """
        path = Path(path or storage.OUTPUT / "images" / "latent_explorer.html")
        names = ("z", "limit", "classes", "colors", "sizes", "weights", "codes", "labels")
        state = json.dumps({name: getattr(self, name) for name in names}).replace("<", "\\u003c")
        page = PAGE.replace("{{script}}", SCRIPT.replace("export default", "const explorer ="))
        with storage.whole_file(path) as scratch:
            scratch.write_text(page.replace("{{state}}", state), encoding="utf-8")
        return path


def latent_explorer(model: VAE, codes: Tensor, labels: Tensor) -> LatentExplorer:
    """Return the explorer of the plane of `model`: codes (N, 2), posterior means, coloured by labels (N,), int64.

    The decoder runs in the browser, from float16 weights; an even choice of 5,000 codes is drawn. Without anywidget
    there are two sliders and the garment. Raises ValueError for a model, codes or labels that the page cannot show, and
    when its garments would be more than one grey level off those of the model. Used in notebooks 04 and 05.
    """
    _check_codes(codes, labels)
    kept = torch.linspace(0, len(codes) - 1, min(len(codes), SHOWN), dtype=torch.float64).long()
    codes, labels = codes.detach().cpu()[kept], labels.cpu()[kept]
    decoder = _page_decoder(model)
    _check_garments(model, decoder, codes[:1000].clamp(-LATENT_LIMIT, LATENT_LIMIT))
    explorer = LatentExplorer(
        sizes=[2, *(layer.out_features for layer in decoder[::2])],
        weights=_base64(torch.cat([weight.flatten() for weight in decoder.parameters()]).half()),
        codes=_base64(codes.half()),
        labels=_base64(labels.to(torch.uint8)),
    )
    explorer.still = _draw_still(model, codes, labels)
    if not anywidget:
        _add_sliders(explorer, model)
    return explorer


def _check_codes(codes: Tensor, labels: Tensor) -> None:
    if codes.dim() != 2 or codes.shape[1] != 2 or len(codes) == 0:
        raise ValueError(f"codes: expected shape (N, 2), received {tuple(codes.shape)}; helpers.encode makes them")
    if not codes.half().isfinite().all():
        raise ValueError("codes: expected finite numbers, received NaN, infinity or more than 65,504; train again")
    if labels.shape != codes.shape[:1] or labels.is_floating_point():
        received = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"labels: expected one int64 for each of {len(codes)} codes, received {received}")
    low, high = labels.min().item(), labels.max().item()
    if not 0 <= low <= high < len(CLASSES):
        raise ValueError(f"labels: expected classes 0 to {len(CLASSES) - 1}, received {low} to {high}")


def _page_decoder(model: VAE) -> nn.Sequential:
    """Return a copy of the decoder as the page has it, its weights rounded to float16; ValueError when it cannot."""
    layers = list(model.decoder) if isinstance(model.decoder, nn.Sequential) else [model.decoder]
    linear = [layer for layer in layers[::2] if type(layer) is nn.Linear and layer.bias is not None]
    known = len(layers) == 2 * len(linear) - 1 and all(type(layer) is nn.SiLU for layer in layers[1::2])
    if not (known and linear[0].in_features == 2 and linear[-1].out_features == 784):
        received = ", ".join(str(layer).partition("\n")[0] for layer in layers)
        raise ValueError(
            "model: expected a decoder of Linear layers with SiLU between them, from 2 numbers to 784 logits, "
            f"received {received}; helpers.VAE(latent_dim=2) has one"
        )
    decoder = copy.deepcopy(model.decoder).cpu().half().float()
    if not all(weight.isfinite().all() for weight in decoder.parameters()):
        raise ValueError("model: expected finite weights, received NaN, infinity or more than 65,504; train it again")
    return decoder


@torch.no_grad()
def _check_garments(model: VAE, decoder: nn.Sequential, z: Tensor) -> None:
    levels = 255 * (torch.sigmoid(decoder(z.float())) - decode(model, z)).abs().max().item()
    if not levels <= 1:
        raise ValueError(
            "model: expected its images to be sigmoid(decoder(z)), in float16 to one grey level, received images "
            f"{levels:.1f} grey levels off; the page knows no other way from z to an image"
        )


def _base64(values: Tensor) -> str:
    return base64.b64encode(values.detach().numpy().tobytes()).decode()


def _draw_still(model: VAE, codes: Tensor, labels: Tensor) -> bytes:
    figure = plt.Figure(figsize=(8, 4), layout="constrained")  # not pyplot's, which the notebook would show as well
    left, right = figure.subplots(1, 2)
    show_latent(codes, labels, left)
    ticks = torch.linspace(-3, 3, 9)
    show_images(decode(model, plane_grid(ticks, ticks.flip(0))), 9, right)
    right.set_title("decoded: −3 to 3 in both directions")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100)
    return png.getvalue()


def _add_sliders(explorer: LatentExplorer, model: VAE) -> None:
    limits = {"min": -LATENT_LIMIT, "max": LATENT_LIMIT, "step": 0.01}
    sliders = [ipywidgets.FloatSlider(description=name, **limits) for name in ("z₁", "z₂")]
    garment = ipywidgets.Image(format="png", width=280, height=280)

    def show(_):
        for slider, value in zip(sliders, explorer.z):
            slider.value = value
        grey = (255 * (1 - decode(model, torch.tensor([explorer.z])))).round().byte().view(28, 28, 1).expand(-1, -1, 3)
        png = io.BytesIO()
        plt.imsave(png, grey.repeat_interleave(10, 0).repeat_interleave(10, 1).numpy())
        garment.value = png.getvalue()

    def move(_):
        explorer.z = tuple(slider.value for slider in sliders)

    for slider in sliders:
        slider.observe(move, "value")
    explorer.observe(show, "z")
    explorer.children = [ipywidgets.VBox(sliders), garment]
    show(None)
