"""The checkers of the failure clinic: which patient it is, and which beta."""

import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from exercises import Wrong, call, compare, shaped, task


@task("7.1", "eight numbers, the patients to whom the finds A to H belong, in this order")
def quiz(patients):
    patients, truth = shaped(patients, (8,)), torch.tensor([3, 5, 6, 1, 9, 4, 10, 8]).double()
    right = patients == truth
    right[0] |= patients[0] == 2  # at beta = 30 patient 2 has a dead dimension as well
    if patients[3] == 8 and patients[7] == 1:
        raise Wrong("D and H are swapped: one of the two has a loss of 0.49, and the other has no gradient")
    if not right.all():
        wrong = ", ".join(letter for letter, good in zip("ABCDEFGH", right) if not good)
        raise Wrong(f"{int(right.sum())} of 8 are right; look again at {wrong}")
    return "Eight pictures, eight lines of code: you can run this clinic."


@task("7.2", "one number, the beta that the colleague trains")
def forgotten_half(beta):
    mistakes = {"the other way round: without the ½ the price of the code is higher": 0.5}
    compare(beta, 2, 1e-6, mistakes)
    return "Nothing else would tell: the loss falls, the pictures are fine, and the bound is none."


@task("7.3", "one number, the beta of the repository")
def read_the_code(beta):
    mistakes = {
        "the squares are averaged over 784 pixels: which sum is 0.001 of the KL compared with?": 0.001,
        "that is 1 / beta": 1 / 0.784,
        "that is for the variance 1, whose negative logarithm has half of the square": 1.568,
        "with the variance ½ the factors ½ and 2 cancel": 0.392,
    }
    compare(beta, 0.784, 1e-3, mistakes)
    return "A thousandth looks like almost nothing, and is nearly the full price."


@task(
    "7.4",
    "a function of vae, batch and done, like the others, that returns recon + 100 kl with 1 nat free per dimension",
)
def more_free_bits(loss_of):
    batch, logits, mu = torch.rand(16, 784), torch.randn(16, 784), torch.randn(16, 2) * torch.tensor([3.0, 0.5])
    logvar = torch.linspace(-4, -0.1, 32).view(2, 16).T
    recon = F.binary_cross_entropy_with_logits(logits, batch, reduction="none").sum(dim=1).mean()
    each = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0, 1))

    def loss(free=1.0, beta=100):
        return recon + beta * each.mean(dim=0).clamp(min=free).sum()

    mistakes = {
        "½ nat is free, not 1": loss(0.5),
        "nothing is free": loss(0),
        "the KL is not multiplied by 100": loss(beta=1),
        "the nats are given to each image; average over the images first": recon + 100 * each.clamp(1).sum(1).mean(),
        "the reconstruction is averaged over pixels; sum over them": loss() - recon + recon / 784,
        "clamp(max=1) gives the nats beyond the first for nothing": recon + 100 * each.mean(0).clamp(max=1).sum(),
    }
    compare(call(loss_of, lambda x: (logits, mu, logvar), batch, 0.5), loss(), 1e-4, mistakes)
    return "Train with it: kl ends at 2 nats, one for each dimension. What is given away is used, and not a bit more."
