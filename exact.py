"""Inference on the plane without approximation: with two latent dimensions every integral over z is a sum over points.

log p(x), p(z|x) and the ELBO of a model whose latent space is a plane, in nats. Derived in notebook 06.

The plane is cut into square cells, with a point in the middle of each. Over a Gaussian of width sigma such a sum, with
points h apart, errs by a factor of about 1 + 2 exp(-2 pi^2 sigma^2 / h^2): by nothing for sigma = h, by 1 % for half of
it. Products have to be those of float32: torch.set_float32_matmul_precision("medium") puts these sums off by nats.
"""

import math
import warnings

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

from helpers import VAE, check_images, check_plane, encode, kl_divergence, plane_grid

TILE = 5  # cells on a side of a tile, which is refined as a whole for the images that need it
NEGLIGIBLE = 14.0  # nats: a tile that holds less than exp(-14) of an image's posterior is not refined
POINTS = 2_000  # decoded at a time: of larger pieces, once freed, a process kept hundreds of megabytes


@torch.no_grad()
def log_joint(model: VAE, x: Tensor, z: Tensor) -> Tensor:
    """Return log p(x|z) + log p(z) (N, M), in nats, of each image x (N, 784) at each point z (M, 2), on the CPU.

    All pairs are one matrix product, x . logits(z) - sum softplus(logits(z)). Raises ValueError for bad images, or
    when the latent space of `model` is not a plane.
    """
    check_images("x", x)
    check_plane("z", z)
    _check_model(model)
    x, z = x.cpu(), z.cpu().float()
    logits = model.decode(z.to(next(model.parameters()).device)).cpu()
    log_prior = Normal(0, 1).log_prob(z).sum(dim=1)
    return torch.addmm(log_prior - F.softplus(logits).sum(dim=1), x, logits.T)


def log_likelihood(model: VAE, x: Tensor, size: int = 200, half_width: float = 5.0, refine: int = 4) -> Tensor:
    """Return log p(x) (N,) of the images x (N, 784), in nats: the integral over z as a sum over cells of the plane.

    There are size x size cells on [-half_width, half_width]^2. Where an image has a share of its posterior, each cell
    is cut into refine x refine smaller ones. Warns when an image has more than 5 % of its posterior at the border, in
    the outermost 5 cells of each side (fewer at the far sides where 5 does not divide size); raises what `log_joint`
    raises, and ValueError for cells that cannot be.
    """
    axis, h = _axis(size, half_width, refine)
    tiles = list(axis.split(TILE))
    log_mass = torch.empty(len(x), len(tiles), len(tiles))  # of p(x, z) in each tile, up to the area of a cell
    for row, z2 in enumerate(tiles):
        columns = log_joint(model, x, plane_grid(axis, z2)).view(len(x), len(z2), size).logsumexp(dim=1)
        log_mass[:, row] = torch.stack([tile.logsumexp(dim=1) for tile in columns.split(TILE, dim=1)], dim=1)
    mass = log_mass.flatten(1).softmax(dim=1).view_as(log_mass)
    _warn_of_border(1 - mass[:, 1:-1, 1:-1].sum(dim=(1, 2)), half_width)
    log_mass += 2 * math.log(h)
    held = mass > math.exp(-NEGLIGIBLE)
    del mass  # 92 MB for 10,000 images and 240 cells on a side
    for row, column in held.any(dim=0).nonzero().tolist() if refine > 1 else ():
        chosen = held[:, row, column]
        points = plane_grid(_cut(tiles[column], h, refine), _cut(tiles[row], h, refine))
        log_mass[chosen, row, column] = log_joint(model, x[chosen], points).logsumexp(dim=1) + 2 * math.log(h / refine)
    return log_mass.flatten(1).logsumexp(dim=1)


def posterior(model: VAE, x: Tensor, size: int = 300, half_width: float = 5.0) -> Tensor:
    """Return the mass (N, size, size) of the true posterior p(z|x) in each cell of [-half_width, half_width]^2.

    Rows run along z2 from -half_width, columns along z1. Warns and raises as `log_likelihood`, but of the outermost
    cells alone.
    """
    axis, _ = _axis(size, half_width, 1)
    mass, step = torch.empty(len(x), size, size), max(1, POINTS // size)  # filled in place: it is large
    for first, z2 in zip(range(0, size, step), axis.split(step)):
        mass[:, first : first + step] = log_joint(model, x, plane_grid(axis, z2)).view(len(x), -1, size)
    for image in mass:
        image.copy_(image.flatten().softmax(dim=0).view_as(image))
    _warn_of_border(1 - mass[:, 1:-1, 1:-1].sum(dim=(1, 2)), half_width)
    return mass


@torch.no_grad()
def elbo(model: VAE, x: Tensor, nodes: int = 8) -> Tensor:
    """Return the ELBO (N,) of the images x (N, 784), in nats, with the expectation over q(z|x) by quadrature.

    Gauss and Hermite's rule with nodes x nodes points around each q: no draw, no noise. Raises ValueError for bad
    images or another latent space than a plane.
    """
    _check_model(model)
    node, weight = np.polynomial.hermite_e.hermegauss(nodes)
    unit = plane_grid(torch.from_numpy(node).float())
    weights = torch.from_numpy(np.outer(weight, weight).ravel() / weight.sum() ** 2).float()
    mu, logvar = encode(model, x)
    reconstruction = []
    for part, mean, sigma in zip(*(v.split(max(1, POINTS // nodes**2)) for v in (x.cpu(), mu, torch.exp(logvar / 2)))):
        z = mean[:, None] + sigma[:, None] * unit
        logits = model.decode(z.flatten(end_dim=1).to(next(model.parameters()).device)).cpu().view(*z.shape[:2], 784)
        log_p = torch.bmm(logits, part[:, :, None])[:, :, 0] - F.softplus(logits).sum(dim=2)
        reconstruction.append(log_p @ weights)
    return torch.cat(reconstruction) - kl_divergence(mu, logvar)


def _check_model(model: VAE) -> None:
    if model.config["latent_dim"] != 2:
        raise ValueError(f"model: expected latent_dim 2 for a sum over a plane, found {model.config['latent_dim']}")


def _axis(size: int, half_width: float, refine: int) -> tuple[Tensor, float]:
    """Return the middles (size,) of the cells along one side, and the side of a cell."""
    whole = isinstance(size, int) and isinstance(refine, int)
    if not (whole and size >= 3 * TILE and 0 < half_width < math.inf and refine >= 1):
        expected = f"a whole size >= {3 * TILE}, half_width > 0 and a whole refine >= 1"
        raise ValueError(f"expected {expected}, received {size!r}, {half_width} and {refine!r}")
    h = 2 * half_width / size
    return h * (torch.arange(size) + 0.5) - half_width, h


def _cut(middles: Tensor, h: float, count: int) -> Tensor:
    """Return the middles of the cells that appear when each cell of side h is cut into `count` along one axis."""
    return (middles[:, None] + h * ((torch.arange(count) + 0.5) / count - 0.5)).flatten()


def _warn_of_border(share: Tensor, half_width: float) -> None:
    outside = int((share > 0.05).sum())
    if outside:
        warnings.warn(
            f"{outside} of {len(share)} images have more than 5 % of their posterior at the border of the square: "
            f"their sums miss mass. Enlarge half_width (now {half_width:g}), and size in proportion.",
            stacklevel=3,
        )
