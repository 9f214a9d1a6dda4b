"""The checkers of notebook 05: draws from the prior and from a mixture, and a walk."""

import math

import torch
from sklearn.mixture import GaussianMixture
from torch.distributions import Categorical

import helpers
from exercises import Wrong, close, compare, numbers, shaped, task


@task("5.1", "three numbers, the entropy in nats of the judge's names for z times 0.5, 1 and 1.5")
def temperature(entropies, vae, verdict):
    entropies, eps = shaped(entropies, (3,)), torch.randn(5_000, 2)

    def entropy(scale):
        names = verdict(helpers.decode(vae, scale * eps))[0]
        return Categorical(torch.bincount(names, minlength=10) / len(eps)).entropy()

    truth = numbers([entropy(scale) for scale in (0.5, 1, 1.5)])
    mistakes = {
        "that is in bits; nats have the natural logarithm": truth / math.log(2),
        "those are effective numbers of classes, e to the entropy": truth.exp(),
        "that scaled the variance; multiply z itself": [entropy(scale**0.5) for scale in (0.5, 1, 1.5)],
        "the order is 0.5, 1, 1.5": truth.flip(0),
    }
    compare(entropies, truth, 0.02, mistakes)
    return "Less spread means fewer kinds, and more spread does not mean more of them."


@task("5.2", "1,000 draws from a mixture fitted to the codes of one class, shape (1000, 2)")
def garment_on_order(z_class, codes):
    z = shaped(z_class, (1000, 2))
    if len(z.unique(dim=0)) < 900:
        raise Wrong("those are few points, many times: let the mixture draw a thousand")
    spread = codes.double().std(dim=0)
    wider, off = z.std(dim=0) / spread, (z.mean(dim=0) - codes.double().mean(dim=0)).abs() / spread
    if off.max() > 0.5:
        raise Wrong("the middle of these draws is not that of the class: was the mixture fitted to mu[y == 3] alone?")
    if wider.max() > 1.3:
        raise Wrong(
            "these draws spread wider than the codes of the class: were they drawn by the mixture's own weights?"
        )
    if wider.min() < 0.7:
        raise Wrong("these draws spread less than the codes of the class: draw from the mixture, not around one centre")
    mixture = GaussianMixture(5, random_state=0).fit(codes.numpy())
    if mixture.score(z.numpy()) < mixture.score(codes.numpy()) - 0.4:
        raise Wrong("the spread is right, but many draws lie where no code is: one Gaussian is not enough, take five")
    return "The mixture goes where the codes of the class are. (The judge's share alone does not ask for that.)"


@task("5.3", "ten points from the bag to the trousers, angle and radius in even steps, shape (10, 2)")
def detour(z_arc, start, end):
    start, end, mix = start.double(), end.double(), torch.linspace(0, 1, 10).double()
    radius = start.norm() + mix * (end.norm() - start.norm())
    a0, a1 = torch.atan2(start[1], start[0]), torch.atan2(end[1], end[0])
    turn = (a1 - a0 + math.pi) % (2 * math.pi) - math.pi

    def arc(turn, radius=radius):
        return torch.stack([radius * torch.cos(a0 + mix * turn), radius * torch.sin(a0 + mix * turn)], dim=1)

    received, long_way = numbers(z_arc), turn - math.copysign(2 * math.pi, turn)
    mistakes = {
        "that is the straight line": (1 - mix)[:, None] * start + mix[:, None] * end,
        "that walks from the trousers to the bag": arc(turn).flip(0),
        "z1 and z2 are swapped: z1 is the radius times the cosine": arc(turn).flip(1),
        "the radius stays what it was at the start, so the walk misses the trousers": arc(turn, start.norm()),
        "all radii are 1: the walk has left its two garments": arc(turn, 1),
    }
    compare(received, arc(long_way if close(received, arc(long_way), 0.01) else turn), 0.01, mistakes)
    return "The straight line is one way among many, and no picture on it is truer than those on yours."
