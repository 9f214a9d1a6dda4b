"""The checkers of notebook 10: dimensions that are alive, the price of a class, and ties."""

import math

import torch

import helpers
from exercises import call, compare, numbers, shaped, task


@task("10.1", "a function of mu and logvar, both (B, Z), that returns how many dimensions carry more than 0.1 nats")
def alive(count):
    def counts(mu, logvar):
        each = helpers.kl_per_dimension(mu, logvar)
        mean, some = each.mean(dim=0), (each > 0.1).float()
        flawed = {
            "mu² is missing, or mu and logvar were averaged before the KL": logvar.exp() - 1 - logvar,
            "that has sigma where sigma² belongs": mu.square() + torch.exp(logvar / 2) - 1 - logvar,
            "that has log sigma where log sigma² belongs": mu.square() + logvar.exp() - 1 - logvar / 2,
        }
        return {
            "right": (mean > 0.1).sum(),
            "that counts pairs of image and dimension; average over the images first": some.sum(),
            "that counts images; average over them, and compare each dimension": (each.sum(dim=1) > 0.1).sum(),
            "that counts dimensions in which any image has more than 0.1 nats": some.any(dim=0).sum(),
            "that counts every dimension: average over the images, and keep the -1 of the formula": len(mean),
            "that asks in how many images it is above 0.1; average, then compare": (some.mean(dim=0) > 0.5).sum(),
            "that is the standard deviation over the images; take their mean": (each.std(dim=0) > 0.1).sum(),
            "that counts large variances of mu; the KL asks for more": (mu.var(dim=0) > 0.1).sum(),
            "that looks at the variances alone; mu has a part in the KL": (logvar.exp().mean(dim=0) < 0.9).sum(),
            "the factor ½ is missing": (2 * mean > 0.1).sum(),
            "there is a factor ½ too many": (mean / 2 > 0.1).sum(),
            "those are the dead ones": (mean <= 0.1).sum(),
            **{text: (0.5 * kl.mean(dim=0) > 0.1).sum() for text, kl in flawed.items()},
        }

    batches = list(two_batches())
    known = [counts(mu, logvar) for mu, logvar in batches]
    mistakes = {text: numbers([each[text] for each in known]) for text in known[0]}
    received = [shaped(numbers(call(count, mu, logvar)).squeeze(), ()) for mu, logvar in batches]
    compare(received, mistakes.pop("right"), 1e-6, mistakes, factors=False)
    return "The mean over the images comes first, then the comparison."


def two_batches():
    """Yield the mu and logvar of two batches in which likely mistakes lead to other counts than the right way."""
    for scale, logvar in (
        (
            [1.0, 1.0, 1.0, 0.9, 0.7, 0.37, 0.37, 0.37, 0.2, 0.0, 0.03, 0.02, 0.02],
            [-4.0, -3.0, -3.0, -2.0, -0.5, -0.1, -0.1, -0.1, -0.3, -0.0001, -0.0001, -0.9, -0.9],
        ),
        (
            [1.0, 0.9, 0.7, 0.7, 0.7, 0.52, 0.0, 0.0, 0.02, 0.0, 0.02],
            [-3.0, -2.0, -0.05, -0.05, -0.05, -0.02, -0.6, -0.6, -0.75, -0.0001, -0.9],
        ),
    ):
        mu = torch.randn(500, len(scale)) * torch.tensor(scale)
        mu[:, 9] = 1.2 * (torch.rand(500) < 0.2)  # says something of a fifth of the images only
        yield mu, torch.tensor(logvar).expand(500, -1)


@task("10.2", "two numbers, the bounds with the price of naming one of ten classes, and one of two unequal ones")
def honest_conditional(both):
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    truth = torch.tensor([246.0 + math.log(10), 246.0 + entropy]).double()
    mistakes = {
        "the price is subtracted; naming the class costs": 2 * 246.0 - truth,
        "that is in bits; ln is asked for": torch.tensor([246.0 + math.log2(10), 246.0 + entropy / math.log(2)]),
        "the two classes are not equally common: take the entropy": torch.tensor([truth[0], 246.0 + math.log(2)]),
        "nothing is added": torch.full((2,), 246.0),
        "that is the price alone; add it to the bound": truth - 246,
        "the two are in the other order": truth.flip(0),
        "that is the price of one of ten classes twice; two unequal classes cost less": truth[[0, 0]],
    }
    compare(shaped(both, (2,)), truth, 3e-5, mistakes)  # two decimals, as the board has them, are enough
    return "What the model is told, it need not say; somebody has to pay for it."


@task("10.3", "one positive number, the difference of the means in standard deviations of that difference")
def a_tie_or_not(deviations):
    a, b = torch.tensor([[236.1, 236.5, 236.3, 236.8, 236.2], [236.9, 236.4, 237.0, 236.7, 236.6]]).double()
    difference, variance = b.mean() - a.mean(), a.var() + b.var()
    by_n = a.var(correction=0) + b.var(correction=0)
    mistakes = {
        "that is in standard deviations of single runs; means of five runs scatter less": difference / variance.sqrt(),
        "that is in standard deviations of single runs, and divides by n, not by n - 1, in the variances": difference
        / by_n.sqrt(),
        "that is the difference in nats; divide by its standard deviation": difference,
        "that divides by n, not by n - 1, in the variances": difference / (by_n / 5).sqrt(),
        "the standard deviations are added; variances add": difference / ((a.std() + b.std()) / 5**0.5),
    }
    compare(numbers(deviations).abs(), difference / (variance / 5).sqrt(), 0.005, mistakes)
    return "Below three: a tie by our rule, whatever one would like to see."
