"""The checkers of notebook 08: prices from a covariance, hidden betas, and free bits."""

import torch
from torch import Tensor

import helpers
from exercises import Wrong, call, close, compare, numbers, shaped, task


@task("8.1", "two numbers, the first two eigenvalues for the shoes alone")
def prices_of_shoes(prices, x: Tensor, y: Tensor):
    def prices_of(images, power=-0.5, covariance=True):
        mean = images.double().mean(dim=0).clamp(1e-3, 1 - 1e-3)
        scale = (mean * (1 - mean)) ** power
        C = torch.cov(images.T.double()) if covariance else images.T.double() @ images.double() / len(images)
        return torch.linalg.eigvalsh(scale[:, None] * C * scale).flip(0)[:2]

    shoes = x[(y == 5) | (y == 7) | (y == 9)]
    mistakes = {
        "those are the prices of all garments": prices_of(x),
        "those are the eigenvalues of C itself, without D": prices_of(shoes, power=0),
        "D is inverted the other way: divide by the square root of p(1 - p)": prices_of(shoes, power=0.5),
        "the mean is not subtracted: C is a covariance": prices_of(shoes, covariance=False),
        "that is one class only; shoes are the classes 5, 7 and 9": prices_of(x[y == 7]),
    }
    compare(shaped(prices, (2,)).sort(descending=True).values, prices_of(shoes), 0.01, mistakes)
    return "The first is higher than that of all garments and the second lower: shoes differ more along one direction."


@task("8.2", "one number, the beta that the colleague trains")
def forgotten_half(beta):
    mistakes = {"the other way round: without the ½ the price of the code is higher": 0.5}
    compare(beta, 2, 1e-6, mistakes)
    return "Neither the curve nor the pictures tell, and the bound is only a looser one: a KL computed apart does."


@task("8.3", "one number, the beta of the repository")
def read_the_code(beta):
    mistakes = {
        "the squares are averaged over 784 pixels: which sum is 0.001 of the KL compared with?": 0.001,
        "that is without the 0.001": 784,
        "that is 1 / beta": 1 / 0.784,
        "that is for the variance 1, whose negative logarithm has half of the square": 0.392,
        "with the variance ½ the factors ½ and 2 cancel": 1.568,
    }
    compare(beta, 0.784, 0.01, mistakes)
    return "A thousandth looks like almost nothing, and is nearly the full price."


@task("8.4", "a function of recon, each and done that returns recon + 100 kl with 1 nat free for each dimension")
def more_free_bits(objective):
    mu, logvar = torch.tensor([[3.0, 0.5, 0.1]]).expand(16, 3), torch.linspace(-4, -0.1, 48).view(3, 16).T
    each = helpers.kl_per_dimension(mu, logvar).mean(dim=0).requires_grad_()
    recon = torch.tensor(250.0)

    def loss(free=1.0, beta=100):
        return recon + beta * each.clamp(min=free).sum()

    mistakes = {
        "½ nat is free, not 1": loss(0.5),
        "nothing is free, or the clamp is applied to the sum; each dimension has a nat of its own": loss(0),
        "the KL is not multiplied by 100": loss(beta=1),
        "the dimensions are averaged; sum over them": recon + 100 * each.clamp(min=1).mean(),
        "at the threshold that price leaps by 100 nats; let a dimension below it cost what one at it does": (
            recon + 100 * each[each > 1].sum()
        ),
        "the price grows with `done`, as in warm-up; here it is 100 from the start": loss(beta=50),
        "clamp(max=1) gives the nats beyond the first for nothing": recon + 100 * each.clamp(max=1).sum(),
        "the free nats are subtracted; then a dimension that says less is paid for it": recon + 100 * (each - 1).sum(),
    }
    result = call(objective, recon, each, 0.25)
    lower = close(numbers(result), numbers(loss() - 300), 1e-5)
    if not lower:
        compare(result, loss(), 1e-5, mistakes)
    if not (torch.is_tensor(result) and result.requires_grad):
        raise Wrong("the number is right, but nothing can be trained with it: its gradient is gone")
    if lower:
        return "It is lower by the free 300 for any code, and has the same gradient. Train with it, and look at kl."
    return "Train with it, and look at kl: in the text nearly all that was given away was used, and no more."
