"""Which images the explorer offers to draw on: a rule, so that nobody picks the ones that please.

Of an even choice of images, some are typical, some have a posterior in two places, some the largest gap, and some fit
the model worst. The page shows each group by its name.
"""

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from exact import POINTS, elbo, log_joint
from helpers import CLASSES, VAE, cross_entropy, plane_grid

CANDIDATES = 600  # of the given images, evenly spread
PER_GROUP = {"Two modes": 8, "Largest gap": 6, "Outsider": 6}  # and one typical image of each class: 30
SIZE, HALF_WIDTH = 192, 5.0  # cells on a side, too coarse for a log p to print and fine enough to rank


def choose_images(model: VAE, x: Tensor, labels: Tensor) -> dict[int, str]:
    """Return which of the images x (N, 784) to start from: index and name, "Typical: Sneaker, image 12".

    By this rule, among 600 of the images, evenly spread, none taken twice. Typical: of each class, the image whose
    log p(x) is the class's median. Two modes: the largest share of the posterior in its second island, where islands
    are the parts that hang together of the smallest set of cells with 99 % of it. Largest gap: log p(x) - ELBO; without
    an encoder there is no such group. Outsider: -log p(x) farthest above the image's own floor. All in nats.
    """
    index = torch.linspace(0, len(x) - 1, min(len(x), CANDIDATES), dtype=torch.float64).long()
    x, labels = x[index], labels[index]
    axis = (torch.arange(SIZE) + 0.5) * 2 * HALF_WIDTH / SIZE - HALF_WIDTH
    rows = 2 * max(1, POINTS // SIZE // 2)
    joint = []  # of cells put together by fours, as the page does for its islands
    for z2 in axis.split(rows):
        cells = log_joint(model, x, plane_grid(axis, z2)).view(len(x), -1, 2, SIZE // 2, 2)
        joint.append(cells.logsumexp(dim=(2, 4)).flatten(1))
    joint = torch.cat(joint, dim=1)
    log_p = joint.logsumexp(dim=1) + 2 * math.log(2 * HALF_WIDTH / SIZE)
    second = torch.tensor([_second(mass.view(SIZE // 2, -1)) for mass in joint.softmax(dim=1)])
    ranks = {"Two modes": second}
    if model.encoder is not None:
        ranks["Largest gap"] = log_p - elbo(model, x)
    ranks["Outsider"] = -log_p - cross_entropy(x, x)
    chosen = {}
    for label in labels.unique().tolist():
        own = (labels == label).nonzero().flatten()
        chosen[own[log_p[own].argsort()[(len(own) - 1) // 2]].item()] = "Typical"
    for group, rank in ranks.items():
        left = [i for i in rank.argsort(descending=True).tolist() if i not in chosen and rank[i] > 0]
        chosen |= dict.fromkeys(left[: PER_GROUP[group]], group)
    names = {i: f"{group}: {CLASSES[labels[i]]}, image {index[i]:,}" for i, group in chosen.items()}
    return {index[i].item(): name for i, name in names.items()}


def plane_peaks(model: VAE, x: Tensor) -> Tensor:
    """Return where the exact posterior of each image x (N, 784) is largest (N, 2): its place without an encoder.

    The best of 100 x 100 points, and from there to the top of the parabola through it and its neighbours on each axis.
    """
    size = 100
    h = 2 * HALF_WIDTH / size
    axis = (torch.arange(size) + 0.5) * h - HALF_WIDTH
    peaks = []
    for part in x.split(1000):
        joint = log_joint(model, part, plane_grid(axis))
        best = joint.argmax(dim=1)
        column, row = (best % size).clamp(1, size - 2), (best // size).clamp(1, size - 2)
        offsets = []
        for step in (1, size):
            low, middle, high = (joint.gather(1, (row * size + column + n * step)[:, None])[:, 0] for n in (-1, 0, 1))
            bend = (2 * middle - low - high).clamp(min=1e-6)
            offsets.append(((high - low) / (2 * bend)).clamp(-0.5, 0.5) * h)
        peaks.append(torch.stack([axis[column], axis[row]], dim=1) + torch.stack(offsets, dim=1))
    return torch.cat(peaks)


def _second(mass: Tensor) -> float:
    """Return the share of a posterior (rows, columns) that is in its second island; 0 where there is one island."""
    values = mass.double().numpy()
    order = np.sort(values, axis=None)[::-1]
    least = order[min(np.searchsorted(order.cumsum(), 0.99), order.size - 1)]
    parts, count = ndimage.label(values >= least, structure=np.ones((3, 3)))
    shares = sorted(ndimage.sum_labels(values, parts, range(1, count + 1)))
    return float(shares[-2]) if count > 1 else 0.0
