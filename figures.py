"""What a page shows: style, saving, images, the latent plane, posteriors, a scale. Notebooks import it as `figures`."""

import math

import matplotlib.pyplot as plt
import torch
from IPython.display import display
from matplotlib.animation import Animation
from matplotlib.collections import EllipseCollection
from torch import Tensor
from torch.nn import functional as F

import storage
from helpers import CLASSES, check_plane, check_same_shape

COLORS = (  # of the classes: apart for every kind of colour vision, and most of all where classes meet on the plane
    "#5ae1d2",
    "#a569f0",
    "#a50f1e",
    "#e13c2d",
    "#b4a5ff",
    "#2d96a5",
    "#0f4bc3",
    "#f0c300",
    "#ff8769",
    "#784b78",
)
LINES = ("#0f4bc3", "#e13c2d", "#2d96a5", "#a569f0", "#b88a00", "#16181d")  # of curves, legible on white
LATENT_LIMIT = 4.0  # the latent plane is drawn on [-4, 4] x [-4, 4] in every notebook


# style and files


def use_style() -> None:
    """Set the look of all figures of the series."""
    plt.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "axes.prop_cycle": plt.cycler(color=LINES),
            "legend.frameon": False,
        }
    )


def show(figure: plt.Figure | None = None, *, alt: str) -> None:
    """Show `figure`, else the current one, below the cell, with `alt` for readers who do not see it, and close it.

    `alt` says in one to three sentences what is seen and what it means. It is kept in the output's metadata, where
    JupyterLab and nbconvert look for it.
    """
    figure = figure or plt.gcf()
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def save_figure(figure: plt.Figure, name: str) -> None:
    """Write `figure` to images/`name`, as the README shows it; OSError when the file cannot be written."""
    with storage.whole_file(storage.OUTPUT / "images" / name) as scratch:
        figure.savefig(scratch, dpi=150)


def save_animation(animation: Animation, name: str, fps: float) -> None:
    """Write `animation` to images/`name`, a GIF of `fps` frames a second; OSError when the file cannot be written."""
    with storage.whole_file(storage.OUTPUT / "images" / name) as scratch:
        animation.save(scratch, writer="pillow", fps=fps)


# images


def show_images(
    images: Tensor, columns: int = 10, ax: plt.Axes | None = None, rows: tuple[str, ...] = (), vmax: float = 1
):
    """Draw images (N, 784) as one grid, dark ink on white, `rows` naming its rows, and return what `imshow` returns.

    Grey levels run from 0 to `vmax` in every image. Raises ValueError for another shape.
    """
    if images.dim() != 2 or images.shape[1] != 784:
        raise ValueError(f"images: expected shape (N, 784), received {tuple(images.shape)}")
    ax = ax or plt.gca()
    count = math.ceil(len(images) / columns)
    cells = F.pad(images.detach().float().cpu(), (0, 0, 0, count * columns - len(images))).view(count, columns, 28, 28)
    grid = F.pad(cells, (1, 1, 1, 1)).permute(0, 2, 1, 3).reshape(count * 30, columns * 30)
    ax.set_xticks([])
    ax.set_yticks([30 * i + 15 for i in range(len(rows))], rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax.imshow(grid.numpy(), cmap="gray_r", vmin=0, vmax=vmax, interpolation="nearest")


# the latent plane


def show_latent(z: Tensor, y: Tensor | None = None, ax: plt.Axes | None = None, names: bool = True, size: float = 5):
    """Draw points z (N, 2) on the latent plane, z1 right, z2 up, the same limits everywhere; return the scatter.

    With labels y (N,) the points have the fixed class colours, and the name of each class stands on its median, framed
    in its colour, unless `names` is False. Raises ValueError for other than two dimensions.
    """
    check_plane("z", z)
    ax, z, y = ax or plt.gca(), z.detach().cpu(), y if y is None else y.cpu()
    colors = "0.35" if y is None else [COLORS[label] for label in y.tolist()]
    points = ax.scatter(*z.T, s=size, c=colors, linewidths=0, alpha=0.8)
    if y is not None and names:
        labels = y.unique().tolist()
        _name_classes(ax, {CLASSES[label]: z[y == label].median(dim=0).values.tolist() for label in labels})
    limits = (-LATENT_LIMIT, LATENT_LIMIT)
    ax.set(xlim=limits, ylim=limits, aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    return points


def _name_classes(ax: plt.Axes, places: dict[str, list[float]]) -> None:
    box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.85, "linewidth": 2}
    inches = min(ax.get_position().size * ax.figure.get_size_inches())
    size = min(plt.rcParams["font.size"], 2.5 * inches)  # in points: ten names have to find room on a small map
    line = 1.4 * size / 72 * 2 * LATENT_LIMIT / inches  # the height of a box on the plane
    taken = []
    for name, (x, y) in sorted(places.items(), key=lambda item: item[1][1]):
        for other, x_below, y_below in taken:  # from the lowest up: a name that would cover another moves above it
            if abs(x - x_below) < 0.2 * line * (len(name) + len(other) + 1) and y < y_below + line:
                y = y_below + line
        taken.append((name, x, y))
        frame = {**box, "edgecolor": COLORS[CLASSES.index(name)]}
        ax.text(x, y, name, ha="center", va="center", size=size, weight="bold", bbox=frame)


def show_posteriors(mu: Tensor, logvar: Tensor, ax: plt.Axes | None = None, scale: float = 2, color="black"):
    """Draw each posterior N(mu, exp(logvar)), both (N, 2), as an ellipse of `scale` standard deviations; return them.

    At scale 2 an ellipse holds 1 - exp(-2) = 86.5 % of its draws. The limits of the axes are left to `show_latent`.
    Raises ValueError for other than two dimensions.
    """
    check_same_shape("mu", mu, "logvar", logvar)
    check_plane("mu", mu)
    ax, mu = ax or plt.gca(), mu.detach().cpu().numpy()
    width, height = (2 * scale * torch.exp(logvar.detach().cpu() / 2)).T.numpy()
    upright = torch.zeros(len(mu)).numpy()
    style = {"facecolors": "none", "edgecolors": color, "linewidths": 0.8}
    return ax.add_collection(
        EllipseCollection(width, height, upright, units="xy", offsets=mu, offset_transform=ax.transData, **style)
    )


# a scale


def show_scale(costs: dict[str, float], ax: plt.Axes | None = None):
    """Draw each cost, in nats per image, as a bar with its name and value, the dearest on top, and return the bars."""
    ax = ax or plt.gca()
    names = sorted(costs, key=costs.get)
    bars = ax.barh(names, [costs[name] for name in names])
    ax.bar_label(bars, fmt="%.1f", padding=3)
    ax.set(xlabel="cost (nats per image)", xlim=(0, 1.12 * max(costs.values())))
    return bars
