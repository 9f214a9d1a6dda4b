"""The checkers of notebook 06: bounds, posteriors that are searched for, and a grid that is too coarse."""

import math
import warnings

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

import exact
import helpers
from exercises import Other, Wrong, call, close, compare, numbers, shaped, task


@task("6.1", "a function of log_w, shape (B, k), that returns the bound from k samples, shape (B,)")
def bound_from_samples(bound):
    log_w = -250 + 3 * torch.randn(8, 500)
    truth = log_w.double().exp().mean(dim=1).log()  # float64 holds e^-250
    log_k = math.log(500)
    mistakes = {
        "that is the ELBO: the average is outside the logarithm": log_w.mean(dim=1),
        "the weights are summed; average them: minus ln k": truth + log_k,
        "ln k is subtracted twice: it is one over k inside the logarithm": truth - log_k,
        "k is the number of columns, here 500": truth + log_k - math.log(1000),
        "that is the largest weight alone": log_w.amax(dim=1),
        "that is one number for all images; return one bound for each": truth.mean(),
        "that averages over the images; the samples are along dim=1": log_w.double().exp().mean(dim=0).log(),
    }
    received = numbers(call(bound, log_w))
    if received.isinf().any():
        raise Wrong("exp(-250) is 0 in float32, and its logarithm infinite: stay in logarithms with logsumexp")
    compare(received, truth, 1e-4, mistakes)
    return "With logsumexp it works at -250 nats and at -250,000."


def log_weights(vae, x: Tensor, z: Tensor, q: Normal) -> Tensor:
    """Return log p(x|z) + log p(z) - log q(z) (S, N) of S draws z (S, N, 2) for each of the images x (N, 784)."""
    with torch.no_grad():
        logits = vae.decode(z.flatten(end_dim=1)).view(*z.shape[:2], 784)
    recon = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(dim=2)
    return (Normal(0, 1).log_prob(z) - q.log_prob(z)).sum(dim=2) - recon


@task("6.2", "a mean and a log-variance for each of the 20 images, both (20, 2), that raise the ELBO")
def search_a_little(mean, log_variance, vae, few, log_p):
    eps, (mu, logvar) = torch.randn(100, len(few), 2), helpers.encode(vae, few)
    mean, log_variance = (shaped(value, mu.shape).float() for value in (mean, log_variance))

    def gap(mean, log_variance):
        q = Normal(mean, torch.exp(log_variance / 2))
        return (log_p - log_weights(vae, few, mean + q.stddev * eps, q).mean(dim=0)).mean()

    before, after = gap(mu, logvar), gap(mean, log_variance)
    closed = 100 * (before - after) / before
    if closed > 30:
        for shift, words in ((0.5, "narrow: is kl in the loss"), (-0.5, "wide: does kl count more than once")):
            if gap(mean, log_variance + shift) < after:
                raise Wrong(f"{closed:.0f} % of the mean gap is gone, but these Gaussians are too {words}?")
        return f"{closed:.0f} % of the mean gap is gone; where the encoder is far off, a search finds the nearest hill."
    if torch.equal(mean, mu):
        raise Wrong("those are the encoder's own means: does the optimizer hold your copies of mu and logvar?")
    for name, value in (("sigma²", log_variance), ("sigma", log_variance.square())):
        if (value > 0).all() and gap(mean, value.log()) < before:
            raise Wrong(f"that is {name}; expected the logarithm of sigma²")
    if gap(mean, 2 * log_variance) < before:
        raise Wrong("that is log sigma; expected log sigma², twice as much")
    if closed < 0:
        raise Wrong(
            f"the mean gap grew from {before:.2f} to {after:.2f} nats: minimise recon + kl, recon as a sum over pixels"
        )
    raise Other(f"received Gaussians that close {closed:.0f} % of the mean gap, when 100 steps close most of it")


@task("6.3", "the log-weights of 1,000 draws for each image from a q with twice the sigma, shape (200, 1000)")
def wider_net(wide_w, vae, some, truth):
    wide_w = shaped(wide_w, (len(some), 1000))
    mu, logvar = helpers.encode(vae, some)
    sigma, eps = torch.exp(logvar / 2), torch.randn(60, len(some), 2)
    if (wide_w >= 0).all():
        raise Wrong("those are the weights; expected their logarithms")
    one = (truth - wide_w.mean(dim=1)).mean()
    every = (truth - wide_w.logsumexp(dim=1) + math.log(1000)).mean()
    if every < -0.5:
        raise Wrong(
            "all 1,000 weights together exceed log p(x): is log q(z) subtracted, is log p(z) in it, and is q the one "
            "that was drawn from?"
        )

    def short(spread):
        """How far one draw of this spread falls short of the truth, on average."""
        return (truth - log_weights(vae, some, mu + spread * eps, Normal(mu, spread)).mean(dim=0)).mean()

    mistakes = {
        "sigma is not doubled: those are the weights of the encoder's own q": short(sigma),
        "that doubles the variance; sigma is then only √2 times as large": short(math.sqrt(2) * sigma),
        "twice logvar is sigma squared; twice sigma is logvar + 2 ln 2": short(sigma**2),
        "only the density has twice the sigma; draw with it too": short(sigma) + 0.75 - 2 * math.log(2),
    }
    compare(one, short(2 * sigma), 0.06, mistakes, "received weights of which one alone falls short by")
    return f"Short by {one:.1f} nats with one draw, by {every:.1f} with 1,000: a wide net is a bad single guess."


@task("6.4", "two numbers, the correlation of the size of the error with the smaller sigma, and with the radius")
def too_coarse(correlations, vae, x, log_p):
    correlations, (mu, logvar) = shaped(correlations, (2,)), helpers.encode(vae, x)
    narrow = torch.exp(logvar.amin(dim=1) / 2)

    def error_with(axis):
        """The signed error of the sum over the points axis x axis."""
        sums = [exact.log_joint(vae, part, helpers.plane_grid(axis)).logsumexp(dim=1) for part in x.split(1000)]
        return torch.cat(sums) + 2 * torch.log(axis[1] - axis[0]) - log_p

    def with_both(error, narrow=narrow):
        return numbers([torch.corrcoef(torch.stack([value, error]))[0, 1] for value in (narrow, mu.norm(dim=1))])

    error = error_with((torch.arange(60) + 0.5) / 6 - 5)
    truth, to_the_rim = with_both(error.abs()), with_both(error_with(torch.linspace(-5, 5, 60)).abs())
    if not close(correlations, to_the_rim, 0.002) and not close(correlations, truth, 0.015):
        with warnings.catch_warnings(action="ignore"):
            refined = exact.log_likelihood(vae, x, size=60) - log_p
        mistakes = {
            "those are correlations with the signed error; take its absolute value": with_both(error),
            "the two are swapped: first sigma, then the radius": truth.flip(0),
            "that is the correlation with log sigma²; take sigma": with_both(error.abs(), 2 * narrow.log()),
            "that is the correlation with sigma²; take sigma": with_both(error.abs(), narrow**2),
            "there the cells are refined where it matters; with refine=1 there are no more than 60 × 60": (
                with_both(refined.abs())
            ),
        }
        compare(correlations, truth, 0.015, mistakes)
    return "Narrow posteriors fall between the points of a grid, wherever they are."
