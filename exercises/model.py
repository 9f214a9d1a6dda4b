"""The checkers of notebook 02: draws, their spread, and the KL."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from exercises import Wrong, call, compare, shaped, task


@task("2.1", "a function of mu and logvar, both (B, 2), that returns one draw z for each row, with a gradient")
def a_draw(draw):
    mu = torch.tensor([[3.0, -1.0], [0.0, 2.0]]).repeat(10_000, 1).requires_grad_()  # two kinds of rows, in turn
    logvar = torch.tensor([[-4.0, -1.0], [-2.0, -3.0]]).repeat(10_000, 1).requires_grad_()
    noise = noise_of(call(draw, mu, logvar), mu, logvar).view(-1, 2, 2)
    means, sigma = mu[:2].detach(), torch.exp(logvar[:2].detach() / 2)
    if (noise.mean(dim=0) + means).diff(dim=0).abs().max() < 0.1:
        raise Wrong("all rows are drawn around one mean: each has a mu and a logvar of its own")
    mistakes = {
        "the draws spread by sigma², not sigma: logvar is the logarithm of the variance": sigma,
        "the draws spread by logvar itself: sigma is the exponential of its half": logvar[:2].abs() / sigma,
        "eps is uniform, as torch.rand makes it; a normal draw is torch.randn": torch.full((2, 2), 1 / math.sqrt(12)),
    }
    eps = noise / sigma
    compare(eps.std(dim=0), torch.ones(2, 2), 0.05, mistakes, "received draws whose spread over sigma is")
    if (eps.mean(dim=0).abs() > 0.05).any():
        raise Wrong("the draws have the right spread, but their mean is not mu")
    if ((eps**4).mean(dim=0) - 3).abs().max() > 0.5:  # 3 for a normal distribution, 1.8 for a uniform one
        raise Wrong("the draws have the right mean and spread, but they are not normal: eps comes from torch.randn")
    return "Shapes and the KL do not tell sigma from sigma²; the spread of the draws does, and so do their gradients."


def noise_of(z, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return z - mu (B, 2) where z depends on mu, logvar and a draw of its own for each number; else raise."""
    noise = shaped(z, mu.shape) - mu.detach()
    if noise.abs().max() < 1e-5:
        raise Wrong("there is no chance in it: every draw is mu")
    alike = noise[::2]  # every second row has the same mu and logvar
    if alike.std(dim=0).max() < 1e-5 or torch.corrcoef(alike.T)[0, 1].abs() > 0.5:
        raise Wrong("several numbers share one eps; each needs its own: torch.randn_like(mu)")
    attached = torch.is_tensor(z) and z.requires_grad
    gradients = torch.autograd.grad(z.sum(), (mu, logvar), allow_unused=True) if attached else (None, None)
    for name, gradient in zip(("mu", "logvar"), gradients):
        if gradient is None or not gradient.any():
            raise Wrong(f"no gradient reaches {name}: draw eps, and compute z from mu, logvar and eps")
    return noise


@task("2.2", "one number, the spread of the estimate with 1 draw over the spread with 100 draws")
def one_draw_or_many(ratio):
    mistakes = {
        "that is the ratio of the variances; the spread is their root": 100,
        "that is 1 draw over 10": math.sqrt(10),
        "that is the spread with 100 draws over the spread with 1, or the 100 draws were summed": 0.1,
        "the spread did not fall: has each of the 100 draws its own eps, and is the standard deviation that of the 50 "
        "estimates of one image?": 1,
    }
    compare(ratio, 10, 0.3, mistakes)
    return "A hundred times the work for one more digit: so training takes one draw, and many images."


@task("2.3", "a function of mu and logvar, both (B, 2), that returns the KL to the prior N((1, 0), I), shape (B,)")
def price_for_position(my_kl):
    mu, logvar, shift = torch.randn(8, 2), torch.randn(8, 2) - 1, torch.tensor([1.0, 0.0])
    q, prior = Normal(mu, torch.exp(logvar / 2)), Normal(shift, torch.ones(2))
    each = kl_divergence(q, prior)

    def price(distance, variance=q.variance, log_variance=logvar):
        return 0.5 * (distance**2 + variance - 1 - log_variance).sum(dim=1)

    mistakes = {
        "the two dimensions are averaged; sum over them": each.mean(dim=1),
        "that is one price for each dimension; sum over them": each,
        "that is one number for all images; sum over the dimensions only": each.sum(),
        "that is the price for a prior at the origin": price(mu),
        "the prior is at (1, 0), yours is at (-1, 0): a sign": price(mu + shift),
        "the prior is at (1, 0), yours is at (1, 1)": price(mu - 1),
        "that has sigma where sigma² belongs": price(mu - shift, q.stddev),
        "that has log sigma where log sigma² belongs": price(mu - shift, q.variance, logvar / 2),
        "the logarithm has the wrong sign": price(mu - shift, q.variance, -logvar),
        "that is KL(p || q), the other way round": kl_divergence(prior, q).sum(dim=1),
    }
    compare(call(my_kl, mu, logvar), each.sum(dim=1), 1e-3, mistakes)
    return "The price counts the distance from the prior's mean, so moving the prior moves the map and nothing else."
