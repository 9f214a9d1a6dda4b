"""The latent explorer: a map of the latent plane, and the decoder of a VAE that runs in the reader's browser.

With a pen, where it is given images: what the reader draws has its exact posterior on the map, at each stroke.
explorer.js is both the widget of a notebook and the script of the saved page; page.html is the rest of that page;
choice.py picks the images to draw on.
"""

import base64
import copy
import io
import json
from functools import partial
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import torch
import traitlets
from torch import Tensor, nn

import storage
from explorer.choice import choose_images, plane_peaks
from figures import COLORS, LATENT_LIMIT, show_images, show_latent
from helpers import CLASSES, VAE, check_images, decode, encode, plane_grid

try:
    import anywidget
except ImportError:  # the explorer then has sliders and no map
    anywidget = None

STATE = (  # of the page: what the widget's front end gets
    *("z", "limit", "classes", "colors", "sizes", "weights", "codes", "labels", "pen", "encoder_sizes", "encoder"),
    *("alone_sizes", "alone_weights", "alone_codes", "images", "image_names", "drawing"),
)
SYNCED = {"sync": bool(anywidget)}  # the sliders need nothing but z
TOGETHER = 0.5  # where all classes lie before a training, and no name has a place; in explorer.js as well
SHOWN = 5000  # codes on the explorer's map; more would only cover each other
SCRIPT, PAGE = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("explorer.js", "page.html"))


ALT = (
    "The explorer as a still picture. On the left the map, codes as dots in the colours of their classes, with names. "
    "On the right the garments that the decoder paints on an even grid from -3 to 3 in both directions."
)


class LatentExplorer(anywidget.AnyWidget if anywidget else ipywidgets.HBox):
    """A point z = (z1, z2) of the latent plane and its garment, moved by the reader and by `explorer.z = (1.0, -1.0)`.

    `latent_explorer` makes it. Raises traitlets.TraitError for a z outside the plane.
    """

    _esm = SCRIPT
    _ipython_display_ = None  # ipywidgets 7 would prefer it to _repr_mimebundle_
    still = b""  # a PNG for viewers that run no JavaScript
    alt = ALT  # of that PNG
    z = traitlets.Tuple(traitlets.Float(), traitlets.Float(), default_value=(0.0, 0.0)).tag(sync=True)
    limit = traitlets.Float(LATENT_LIMIT).tag(**SYNCED)
    classes = traitlets.List(list(CLASSES)).tag(**SYNCED)
    colors = traitlets.List(list(COLORS)).tag(**SYNCED)
    sizes = traitlets.List().tag(**SYNCED)  # of the decoder's layers: 2, ..., 784
    weights = traitlets.Unicode().tag(**SYNCED)  # float16 in base64, as Colab drops binary buffers
    codes = traitlets.Unicode().tag(**SYNCED)  # the same
    labels = traitlets.Unicode().tag(**SYNCED)  # bytes in base64
    pen = traitlets.Bool(False).tag(**SYNCED)
    encoder_sizes = traitlets.List().tag(**SYNCED)  # 784, ..., 4
    encoder = traitlets.Unicode().tag(**SYNCED)  # as weights; empty where there is none
    alone_sizes = traitlets.List().tag(**SYNCED)  # of the decoder that was trained without an encoder
    alone_weights = traitlets.Unicode().tag(**SYNCED)
    alone_codes = traitlets.Unicode().tag(**SYNCED)
    images = traitlets.Unicode().tag(**SYNCED)  # to start from: 784 bytes each, in base64
    image_names = traitlets.List().tag(**SYNCED)  # "group: name"
    drawing = traitlets.Unicode().tag(**SYNCED)  # what is on the pad, the same; empty before the first
    found = traitlets.Dict().tag(**SYNCED)  # of the drawing, when the pen has rested: decoder, log_p ...

    @traitlets.validate("z")
    def _check_z(self, proposal):
        if all(abs(value) <= LATENT_LIMIT for value in proposal.value):
            return proposal.value
        limits = f"[{-LATENT_LIMIT:g}, {LATENT_LIMIT:g}]"
        raise traitlets.TraitError(f"z: expected two numbers in {limits}, received {proposal.value}")

    def draw(self, x: Tensor) -> None:
        """Put the image x (1, 784), float32 in [0, 1], on the pad, in 256 grey levels; ValueError for what is none."""
        check_images("x", x)
        if len(x) != 1:
            raise ValueError(f"x: expected one image (1, 784), received {tuple(x.shape)}; one image is x[i : i + 1]")
        if not self.pen:
            raise ValueError("this explorer has no pen; latent_explorer(model, codes, labels, images=x) makes one")
        self.drawing = _bytes64(x)

    def drawn(self) -> Tensor:
        """Return the image on the pad (1, 784), float32 in [0, 1]; white before the first stroke."""
        pixels = base64.b64decode(self.drawing) or bytes(784)
        return torch.tensor(list(pixels))[None] / 255

    def show(self, model: VAE, codes: Tensor, labels: Tensor | None = None) -> None:
        """Send the present weights of `model`, and codes (N, 2), to the page: the plane while it learns.

        From `fit`'s `on_epoch`, say. The kernel only sends, so it may be busy. `labels` (N,) are the last ones unless
        others are given. Raises ValueError as `latent_explorer`, and for other labels where a second decoder has codes
        of its own for the first ones; the page's garments and codes are not checked. What was made for the
        first model stays: `still` and `alt`, for viewers without JavaScript, and the choice of images to start from.
        """
        labels = self._labels if labels is None else labels
        _check_codes(codes, labels)
        if self.alone_codes and not torch.equal(labels, self._labels):
            raise ValueError(
                "labels: expected those that the explorer was made with, as its second decoder's codes are"
            )
        self._model, self._labels = model, labels
        state = _state_of(model, codes, labels)
        if self.encoder:
            state |= _encoder_state(model)
        with self.hold_sync():  # one message
            for name, value in state.items():
                setattr(self, name, value)
        if not anywidget:
            self._redraw(None)

    def __repr__(self) -> str:
        return f"LatentExplorer(z={self.z})"

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        metadata = super()._repr_mimebundle_(**kwargs)[1] if anywidget else {}  # where Colab finds its widget manager
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        still = base64.b64encode(self.still).decode()
        data = {"application/vnd.jupyter.widget-view+json": view, "image/png": still, "text/plain": repr(self)}
        return data, {**metadata, "image/png": {"alt": self.alt}}

    def save(self, path: Path | str | None = None) -> Path:
        """Write the explorer as one page that needs no Python and no network, and return its path.

        `path` is images/latent_explorer.html unless another is given. The whole file is written or none of it: raises
        OSError when it cannot be, and an older file at `path` then stays as it was.
        """
        path = Path(path or storage.OUTPUT / "images" / "latent_explorer.html")
        state = json.dumps({name: getattr(self, name) for name in STATE}).replace("<", "\\u003c")
        page = PAGE.replace("{{script}}", SCRIPT.replace("export default", "const explorer ="))
        with storage.whole_file(path) as scratch:
            scratch.write_text(page.replace("{{state}}", state), encoding="utf-8", newline="\n")
        return path


def latent_explorer(
    model: VAE, codes: Tensor, labels: Tensor, images: Tensor | None = None, alone: VAE | None = None
) -> LatentExplorer:
    """Return the explorer of the plane of `model`: codes (N, 2), posterior means, coloured by labels (N,), int64.

    The decoder runs in the browser, from float16 weights; an even choice of 5,000 codes is drawn. Without anywidget
    there are two sliders and the garment. With the images (N, 784) to which the codes belong there is a pen, whose
    reader starts from an empty pad or from some 30 of them, chosen by the rule in choice.py: some seconds of work. Then
    `alone`, a decoder that was trained without an encoder, may be offered beside that of `model`; `model` itself may
    have None for an encoder. Raises ValueError for a model, codes, labels or images that the page cannot show, and when
    its garments would be more than one grey level off those of the model, or its codes more than 0.01.
    """
    _check_codes(codes, labels)
    state = _state_of(model, codes, labels)
    _check_garments(model, _page_decoder(model), codes[:1000].detach().cpu().clamp(-LATENT_LIMIT, LATENT_LIMIT))
    if images is not None:
        state |= _pen_state(model, codes, labels, images, alone)
    elif alone is not None:
        raise ValueError("images: expected those of the codes where `alone` is given, to find their places; got None")
    explorer = LatentExplorer(**state)
    explorer._model, explorer._labels = model, labels
    if model.encoder is None:
        explorer.alt = ALT.replace("the decoder paints", "the decoder without an encoder paints")
    explorer.still = _draw_still(model, codes[_kept(codes)].detach().cpu(), labels[_kept(codes)].cpu())
    if not anywidget:
        _add_sliders(explorer)
    return explorer


def _kept(codes: Tensor) -> Tensor:
    return torch.linspace(0, len(codes) - 1, min(len(codes), SHOWN), dtype=torch.float64).long()


def _state_of(model: VAE, codes: Tensor, labels: Tensor) -> dict:
    decoder = _page_decoder(model)
    return {
        "labels": base64.b64encode(bytes(labels.cpu()[_kept(codes)].tolist())).decode(),
        "sizes": [2, *(layer.out_features for layer in decoder[::2])],
        "codes": _base64(codes.detach().cpu()[_kept(codes)].half()),
        "weights": _base64(torch.cat([weight.flatten() for weight in decoder.parameters()]).half()),
    }


def _pen_state(model: VAE, codes: Tensor, labels: Tensor, images: Tensor, alone: VAE | None) -> dict:
    check_images("images", images)
    if len(images) != len(codes):
        raise ValueError(f"images: expected one for each of {len(codes)} codes, received {len(images)}")
    images, labels = images.cpu(), labels.cpu()
    chosen = choose_images(model, images, labels)
    state = {"pen": True, "images": _bytes64(images[list(chosen)]), "image_names": list(chosen.values())}
    if model.encoder is not None:
        state |= _encoder_state(model)
        _check_encoder(model, images[:1000])
    if alone is not None:
        places = plane_peaks(alone, images[_kept(codes)])
        _check_garments(alone, _page_decoder(alone), places[:1000].clamp(-LATENT_LIMIT, LATENT_LIMIT))
        other = _state_of(alone, places, labels[_kept(codes)])
        state |= {f"alone_{name}": other[name] for name in ("sizes", "weights", "codes")}
    return state


def _encoder_state(model: VAE) -> dict:
    encoder = _page_layers(model.encoder, "encoder", 784, 4, "a mean and a log variance for each axis")
    return {
        "encoder_sizes": [784, *(layer.out_features for layer in encoder[::2])],
        "encoder": _base64(torch.cat([weight.flatten() for weight in encoder.parameters()]).half()),
    }


@torch.no_grad()
def _check_encoder(model: VAE, x: Tensor) -> None:
    mean, h = _page_layers(model.encoder, "encoder", 784, 4, "")(x).chunk(2, dim=1)
    mu, logvar = encode(model, x)
    off = (mean - mu).abs().max().item(), (nn.functional.logsigmoid(h) - logvar).abs().max().item()
    if not (off[0] <= 0.01 and off[1] <= 0.02):
        raise ValueError(
            "model: expected mu and logsigmoid(h), the two halves of encoder(x), in float16 to 0.01 and 0.02, received "
            f"codes {off[0]:.3f} and log variances {off[1]:.3f} off; the page knows no other way from x to q(z|x)"
        )


def _bytes64(x: Tensor) -> str:
    return base64.b64encode((255 * x.cpu()).round().byte().numpy().tobytes()).decode()


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
    return _page_layers(model.decoder, "decoder", 2, 784, "784 logits")


def _page_layers(network: nn.Module, name: str, n_in: int, n_out: int, outputs: str) -> nn.Sequential:
    layers = list(network) if isinstance(network, nn.Sequential) else [network]
    linear = [layer for layer in layers if type(layer) is nn.Linear and layer.bias is not None]
    known = len(layers) == 2 * len(linear) - 1 and all(type(layer) is nn.SiLU for layer in layers[1::2])
    if not (known and linear[0].in_features == n_in and linear[-1].out_features == n_out):
        received = ", ".join(str(layer).partition("\n")[0] for layer in layers)
        raise ValueError(
            f"model: expected {'an' if name[0] == 'e' else 'a'} {name} of Linear layers with SiLU between them, from "
            f"{n_in} numbers to {outputs}, received {received}; helpers.VAE(latent_dim=2) has one"
        )
    network = copy.deepcopy(nn.Sequential(*layers)).cpu().half().float()
    if not all(weight.isfinite().all() for weight in network.parameters()):
        raise ValueError("model: expected finite weights, received NaN, infinity or more than 65,504; train it again")
    return network


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
    medians = torch.stack([codes[labels == label].median(dim=0).values for label in labels.unique()])
    together = len(medians) > 1 and (medians - medians.amin(dim=0)).max() < TOGETHER
    show_latent(codes, labels, left, names=not together, size=30 if together else 5)
    ticks = torch.linspace(-3, 3, 9)
    show_images(decode(model, plane_grid(ticks, ticks.flip(0))), 9, right)
    right.set_title("decoded: −3 to 3 in both directions")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100)
    return png.getvalue()


def _add_sliders(explorer: LatentExplorer) -> None:
    limits = {"min": -LATENT_LIMIT, "max": LATENT_LIMIT, "step": 0.01}
    sliders = [ipywidgets.FloatSlider(description=name, **limits) for name in ("z₁", "z₂")]
    garment = ipywidgets.Image(format="png", width=280, height=280)

    def show(_):
        for slider, value in zip(sliders, explorer.z):
            slider.value = value
        garment_now = decode(explorer._model, torch.tensor([explorer.z]))
        grey = (255 * (1 - garment_now)).round().byte().view(28, 28, 1).expand(-1, -1, 3)
        png = io.BytesIO()
        plt.imsave(png, grey.repeat_interleave(10, 0).repeat_interleave(10, 1).numpy())
        garment.value = png.getvalue()

    def move(axis, change):  # of this axis alone: the other slider may not have followed z yet
        explorer.z = (*explorer.z[:axis], change.new, *explorer.z[axis + 1 :])

    for axis, slider in enumerate(sliders):
        slider.observe(partial(move, axis), "value")
    explorer.observe(show, "z")
    explorer.children = [ipywidgets.VBox(sliders), garment]
    explorer._redraw = show
    show(None)
