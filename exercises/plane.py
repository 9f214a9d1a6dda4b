"""The checkers of notebook 04: the latent plane, its ellipses, clusters, shifts and holes."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

import helpers
from exercises import Other, Wrong, call, compare, numbers, shaped, task


@task("4.1", "a function of s that returns the share of a Gaussian's draws, in two dimensions, within s sigma")
def mass_of_an_ellipse(within):
    s = torch.tensor([0.5, 1.0, 2.0, 3.0])
    one_axis = torch.erf(s / math.sqrt(2))
    mistakes = {
        "that is the share within s sigma of one coordinate; here two must be near at once": one_axis,
        "that is the mass of a square; an ellipse has no corners": one_axis**2,
        "that is what lies outside": torch.exp(-(s**2) / 2),
        "in the exponent a factor ½ is missing": 1 - torch.exp(-(s**2)),
        "in the exponent s is not squared": 1 - torch.exp(-s / 2),
        "that is the density, not the mass": torch.exp(-(s**2) / 2) / (2 * math.pi),
    }
    try:
        received = torch.stack([numbers(call(within, value)).reshape(()) for value in s])
    except Wrong:  # it may want several at once
        received = shaped(call(within, s), s.shape)
    compare(received, 1 - torch.exp(-(s**2) / 2), 0.015, mistakes)  # as 10,000 draws find it
    return "At s = 1 it is 39 %, not the 68 % of one coordinate: in two dimensions most draws lie beyond one sigma."


@task("4.2", "a class from 0 to 9 for each test image")
def without_labels(named, y_test):
    named = shaped(named, y_test.shape).long()
    share = 100 * (named == y_test).double().mean()
    clusters = [y_test[named == k] for k in named.unique()]
    best = 100 * sum((members == members.mode().values).sum() for members in clusters) / len(y_test)
    if share < 45 < best:
        raise Wrong("those are numbers of clusters, or averages of labels; give each the commonest class of its codes")
    if share < 45:
        raise Wrong(f"only {share:.1f} % of these names are right: are clusters and codes of the same model?")
    if share > 64:
        raise Wrong(
            f"{share:.1f} % is more than ten clusters can do: fine with more of them, but ten would need labels"
        )
    return f"{share:.1f} % have the right name; with more than ten clusters it would be more."


@task("4.3", "four numbers, the median distance that codes move for shifts to the right by 1, 2, 3 and 4 pixels")
def how_far_is_a_shift(ways, vae, x_test):
    ways, room = shaped(ways, (4,)), (x_test.view(-1, 28, 28)[:, :, 24:] == 0).flatten(start_dim=1).all(dim=1)
    mu, logvar = helpers.encode(vae, x_test)

    def moved(left=1, down=0, chosen=room):
        pictures = x_test[chosen].view(-1, 28, 28)
        shifted = (F.pad(pictures, (left * n, 0, down * n, 0))[:, :28, :28].flatten(1) for n in (1, 2, 3, 4))
        return torch.stack([helpers.encode(vae, x)[0] - mu[chosen] for x in shifted])

    step = moved()
    way = step.norm(dim=2)
    every = torch.ones_like(room)
    rolled = [x_test.view(-1, 28, 28).roll(n, dims=2).flatten(1) for n in (1, 2, 3, 4)]
    rolled = torch.stack([helpers.encode(vae, x)[0] - mu for x in rolled])
    mistakes = {
        "those are the means, which a few leaping images pull up; take the medians": way.mean(dim=1),
        "those are units of each image's sigma; here plain distance is asked for": (
            (step / torch.exp(logvar[room] / 2)).norm(dim=2).median(dim=1).values
        ),
        "those are squared distances": way.square().median(dim=1).values,
        "those images moved down": moved(0, 1).norm(dim=2).median(dim=1).values,
        "those are all images, whose right edge is cut off; take those with four blank columns there": (
            moved(chosen=every).norm(dim=2).median(dim=1).values
        ),
        "roll brings what leaves on the right back on the left; pad instead": rolled.norm(dim=2).median(dim=1).values,
    }
    compare(ways, way.median(dim=1).values, 0.01, mistakes)
    return "To you it is the same garment, to this network another place."


@task("4.4", "the 200 of 10,000 draws from the prior with the smallest q(z) / p(z), shape (200, 2)")
def mind_the_gap(z_rare, mu_train, logvar_train):
    z, axis = shaped(z_rare, (200, 2)), torch.linspace(-4, 4, 321)
    q = helpers.aggregate_posterior(mu_train, logvar_train, axis).flatten()
    p = Normal(0, 1).log_prob(helpers.plane_grid(axis)).sum(dim=1).exp()
    cells = helpers.cell_of(z, axis)
    found = among_lowest(q / p, p, cells)
    if found > 0.95:
        if len(z.unique(dim=0)) < 190 or (z.norm(dim=1) > 2).double().mean() > 0.8:
            raise Wrong("those are the emptiest places of the plane, and no draws from the prior: draw 10,000 first")
        return "The holes are gaps as well as outskirts, and in the gaps live the chimeras."
    if among_lowest(q / p, p, helpers.cell_of(z.flip(1), axis)) > 0.95:
        raise Wrong("z1 and z2 are swapped: rows of q run along z2, columns along z1")
    if among_lowest(q, p, cells) > 0.95:
        raise Wrong("those have the smallest q(z), at the rim, where p(z) is small as well; divide by p(z)")
    if among_lowest(-q / p, p, cells) > 0.5:
        raise Wrong("those have the largest q(z) / p(z): the densest places, not the holes")
    raise Other(f"received points of which {100 * found:.0f} % lie in the emptiest places")


def among_lowest(values: Tensor, p: Tensor, cells: Tensor) -> Tensor:
    """Return the share of `cells` among those, lowest in `values`, that hold 3 % of the prior p's mass."""
    order = values.argsort()
    mass = p[order].cumsum(dim=0) / p.sum()
    return (values[cells] <= values[order[(mass < 0.03).sum()]]).double().mean()
