"""The checkers of the exercises: `check("1.1", answer)` prints one line that says right, or names the likely mistake.

Each exercise has one checker below, under its number, with the sentence that says what is expected. A checker works out
the truth by a way of its own, from data and weights that it is given or loads, and also what likely mistakes lead to.
It returns a sentence for whoever got it right, and raises otherwise. `check` itself never raises because of an
answer, and leaves torch's random numbers as they were.
"""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence
from torch.nn import functional as F

import helpers

TASKS = {}  # number: (what is expected, checker)


class Missing(Exception):
    """There is no answer yet."""


class Wrong(Exception):
    """The answer is wrong, and the message says how."""


class Other(Exception):
    """The answer is wrong, and the message says only what was received."""


def task(number: str, expected: str):
    """Return a decorator that makes a function the checker of the exercise `number`."""

    def keep(checker):
        TASKS[number] = expected, checker
        return checker

    return keep


def check(number: str, *given) -> None:
    """Print whether the answer to exercise `number`, first in `given`, is right, and if not, what may have gone wrong.

    An answer `...` or None, or a function that returns one, counts as not given yet. The rest of `given` is what the
    checker needs. Raises ValueError for the number of no exercise, and nothing because of an answer.
    """
    if number not in TASKS:
        raise ValueError(f"number: expected one of {', '.join(TASKS)}, received {number!r}")
    expected, checker = TASKS[number]
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if any(map(missing, given)):
                raise Missing
            verdict = f"right. {checker(*given)}"
    except Missing:
        verdict = f"not answered yet. Expected: {expected}."
    except Wrong as wrong:
        verdict = str(wrong)
    except Other as other:
        verdict = f"{other}. Expected: {expected}."
    except Exception as error:  # an answer may be anything
        verdict = f"this cannot be checked ({summary(error)}). Expected: {expected}."
    print(f"{number}: {verdict}")


# what checkers have in common


def missing(answer) -> bool:
    """Return whether `answer` is still, or still holds, the `...` of the unsolved cell."""
    return answer is None or answer is ... or (isinstance(answer, (list, tuple)) and any(map(missing, answer)))


def summary(error: Exception) -> str:
    """Return the kind and the message of `error` in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def numbers(answer) -> Tensor:
    """Return a number, list, array or tensor as float64 on the CPU, without a gradient; else raise."""
    if missing(answer):
        raise Missing
    if isinstance(answer, (list, tuple)):
        return torch.stack([numbers(part) for part in answer])
    try:
        value = answer if torch.is_tensor(answer) else torch.from_numpy(np.array(answer))
    except TypeError:
        raise Other(f"received a {type(answer).__name__}") from None
    return value.detach().cpu().double()


def shaped(answer, shape: tuple) -> Tensor:
    """Return `numbers(answer)` where it has this shape and is finite; else raise."""
    value = numbers(answer)
    if value.shape != shape:
        raise Wrong(f"expected shape {tuple(shape)}, received {tuple(value.shape)}")
    if not value.isfinite().all():
        raise Wrong(f"received {shown(value)}: not all of it is finite")
    return value


def call(function, *inputs):
    """Return what the reader's function returns; raise where it is none, fails or returns nothing."""
    if not callable(function):
        raise Other(f"received a {type(function).__name__}")
    try:
        result = function(*inputs)
    except Exception as error:
        raise Wrong(f"your function raised {summary(error)}") from error
    if missing(result):
        raise Missing
    return result


def close(a: Tensor, b: Tensor, tol: float) -> bool:
    """Return whether a and b have one shape and differ by at most `tol` of the largest value in b."""
    return a.shape == b.shape and bool(((a - b).abs() <= tol * b.abs().max()).all())


def compare(answer, truth, tol: float, mistakes: dict, name: str = "received") -> None:
    """Return where `answer` is the truth; else raise, naming the mistake whose value it is where there is one.

    `mistakes` maps what to say to the value that the mistake leads to; `tol` is relative to the largest value.
    """
    received, truth = numbers(answer), numbers(truth)
    if truth.dim() == 0 and received.numel() == 1:
        received = received.reshape(())
    if close(received, truth, tol):
        return
    usual = {
        "the sign is the other way round": -truth,
        "that is twice the right value: a factor ½ is missing": 2 * truth,
        "that is half of the right value: there is a factor ½ too many": truth / 2,
        "that is a hundred times the right value: per cent instead of a share?": 100 * truth,
    }
    for message, value in {**mistakes, **usual}.items():
        if close(received, numbers(value), tol):
            raise Wrong(message)
    raise Other(f"{name} {shown(shaped(received, truth.shape))}")


def shown(value: Tensor) -> str:
    """Return a number, or the first numbers of a tensor and its shape."""
    first = ", ".join(f"{number:.4g}" for number in value.flatten()[:4].tolist())
    return first if value.dim() == 0 else f"{first}{', ...' if value.numel() > 4 else ''} (shape {tuple(value.shape)})"


# 1 data


@task("1.1", "one number, the cost of the image itself in bits per pixel")
def bits_per_pixel(bits):
    x, _ = helpers.load_fashion_mnist("validation")
    nats = F.binary_cross_entropy(x, x, reduction="sum") / len(x)
    mistakes = {
        "that is nats per pixel; divide by ln 2 as well": nats / 784,
        "that is bits per image; divide by the number of pixels": nats / math.log(2),
        "that is nats per image, as in the ladder": nats,
        "a bit is ln 2 nats: divide by ln 2 where you multiplied": nats / 784 * math.log(2),
        "that is the top of the ladder, ½ for every pixel": 1,
    }
    compare(bits, nats / 784 / math.log(2), 0.006, mistakes)
    return "A third of a bit per pixel is the price of the greys alone, and no model can save it."


@task("1.2", "two numbers, the cost in nats per image with 10 and with 50 components")
def more_directions(costs, x, x_val):
    costs, mean = shaped(costs, (2,)), x.mean(dim=0)
    covariance = (x.T @ x / len(x) - torch.outer(mean, mean)).double()
    directions = torch.linalg.eigh(covariance).eigenvectors.flip(1).float()

    def cost(count, low=0.01):
        back = mean + (x_val - mean) @ directions[:, :count] @ directions[:, :count].T
        return F.binary_cross_entropy(back.clamp(low, 1 - low), x_val, reduction="sum") / len(x_val)

    truth = numbers([cost(10), cost(50)])
    mistakes = {
        "that is the mean over the pixels; a cost in nats per image is their sum": truth / 784,
        "the two are swapped: first 10 components, then 50": truth.flip(0),
        "the reconstructions reach 0 and 1; clamp them to [0.01, 0.99] as above": [cost(10, 1e-6), cost(50, 1e-6)],
        "that is the sum over all images; average over them": truth * len(x_val),
    }
    compare(costs, truth, 0.001, mistakes)
    return "Even 50 numbers stay far above the floor: a linear map needs many directions for texture."


@task("1.3", "three shares between 0 and 1, the accuracy with k = 1, 20 and 100 neighbours")
def choice_of_k(shares, z, y, z_val, y_val):
    shares = shaped(shares, (3,))
    nearest = torch.from_numpy(cKDTree(z.numpy()).query(z_val.numpy(), 100)[1])
    votes = [F.one_hot(y[nearest[:, :k]], 10).sum(dim=1).argmax(dim=1) for k in (1, 20, 100)]
    truth = numbers([(vote == y_val).float().mean() for vote in votes])
    if 0.99 < shares[0] <= 1:
        raise Wrong("k = 1 is right for every image: were the images judged those whose labels were given?")
    mistakes = {
        "that is the share of mistakes": 1 - truth,
        "the order is k = 1, 20, 100": truth.flip(0),
        "those are numbers of images; divide by how many there are": truth * len(y_val),
    }
    compare(shares, truth, 0.01, mistakes)
    return "Several points from k alone, on one and the same plane: whoever reports an accuracy must fix k beforehand."


# 2 model


@task("2.1", "a function of mu and logvar, both (B, 2), that returns one draw z for each row, with a gradient")
def a_draw(draw):
    mu = torch.tensor([[3.0, -1.0]]).repeat(20_000, 1).requires_grad_()
    logvar = torch.tensor([[-4.0, -1.0]]).repeat(20_000, 1).requires_grad_()
    noise = noise_of(call(draw, mu, logvar), mu, logvar)
    sigma, variance = torch.exp(logvar[0] / 2), torch.exp(logvar[0])
    mistakes = {
        "the draws spread by sigma², not sigma: logvar is the logarithm of the variance": variance,
        "the draws spread by logvar itself: sigma is the exponential of its half": logvar[0].abs(),
        "eps is uniform, as torch.rand makes it; a normal draw is torch.randn": sigma / math.sqrt(12),
    }
    compare(noise.std(dim=0), sigma, 0.05, mistakes, "received draws whose spread is")
    if (noise.mean(dim=0).abs() > 0.05 * sigma).any():
        raise Wrong("the draws have the right spread, but their mean is not mu")
    return "Only a look at the spread of draws tells sigma from sigma²; shapes, gradients and the KL stay silent."


def noise_of(z, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return z - mu (B, 2) where z depends on mu, logvar and a draw of its own for each number; else raise."""
    noise = shaped(z, mu.shape) - mu.detach()
    if noise.abs().max() < 1e-5:
        raise Wrong("there is no chance in it: every draw is mu")
    if noise.std(dim=0).max() < 1e-5 or torch.corrcoef(noise.T)[0, 1].abs() > 0.5:
        raise Wrong("several numbers share one eps; each needs its own: torch.randn_like(mu)")
    attached = torch.is_tensor(z) and z.requires_grad
    gradients = torch.autograd.grad(z.sum(), (mu, logvar), allow_unused=True) if attached else (None, None)
    for name, gradient in zip(("mu", "logvar"), gradients):
        if gradient is None:
            raise Wrong(f"no gradient reaches {name}: draw eps, and compute z from mu, logvar and eps")
    return noise


@task("2.2", "one number, the spread of the estimate with 1 draw over the spread with 100 draws")
def one_draw_or_many(ratio):
    mistakes = {
        "that is the ratio of the variances; the spread is their root": 100,
        "that is 1 draw over 10": math.sqrt(10),
        "that is the spread with 100 draws over the spread with 1": 0.1,
        "the spread did not fall: does each of the 100 draws have its own eps?": 1,
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


# 3 training


@task("3.1", "a function of model, optimizer and batch that moves the model's weights by one training step")
def one_step(step):
    model, x = helpers.VAE(hidden=(16,)), torch.rand(16, 784)
    with torch.no_grad():  # a variance of e^-20, so that the truth does not depend on the draw
        model.encoder[-1].weight[2:], model.encoder[-1].bias[2:] = 0, -20
    weights = list(model.parameters())
    truth, mistakes = gradients_of(model, x, weights)
    for weight in weights:
        weight.grad = torch.full_like(weight, 5)  # as an earlier step leaves them
    before = torch.nn.utils.parameters_to_vector(weights).detach().clone()
    done = True
    try:
        call(step, model, torch.optim.SGD(weights, lr=1e-3), x)
    except Missing:  # a step need not return anything, but it must do something
        done = any(weight.grad is None or (weight.grad != 5).any() for weight in weights)
    used = (before - torch.nn.utils.parameters_to_vector(weights).detach()) / 1e-3
    if not used.any():
        raise Wrong("the weights have not moved: the order is zero_grad, backward, step") if done else Missing
    compare(used, truth, 0.002, mistakes, "received weights that were moved by the gradient")
    return "These lines, 4,300 times, are all of the training; the rest is the learning rate."


def gradients_of(model, x: Tensor, weights: list) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the gradient of the loss in one vector, and those that likely mistakes lead to."""
    logits, mu, logvar = model(x)
    recon = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)
    kl = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0, 1)).sum(dim=1)

    def gradient(loss):
        parts = torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
        return torch.nn.utils.parameters_to_vector(parts)

    truth = gradient((recon + kl).mean())
    return truth, {
        "an earlier step's gradient is still in it: optimizer.zero_grad() before loss.backward()": truth + 5,
        "only an earlier step's gradient was used: loss.backward() after optimizer.zero_grad()": truth * 0 + 5,
        "uphill: minimise recon + kl, not its negative": -truth,
        "the images are summed; average over them": gradient((recon + kl).sum()),
        "the loss is recon alone; the kl is missing": gradient(recon.mean()),
        "the loss is kl alone; the recon is missing": gradient(kl.mean()),
        "recon is averaged over the pixels, so kl counts 784 times": gradient(recon.mean() / 784 + kl.mean()),
        "recon and kl are averaged over pixels and dimensions": gradient(recon.mean() / 784 + kl.mean() / 2),
    }


def last(history: dict, *names: str) -> float:
    """Return the sum of the named columns at the end of a history of `helpers.fit`."""
    if not isinstance(history, dict) or not set(names) <= set(history):
        raise Wrong(f"expected a history, the dictionary that helpers.fit returns, received a {type(history).__name__}")
    return sum(history[name][-1] for name in names)


@task("3.2", "a positive number, the difference of the last val_recon + val_kl of the two histories, in nats")
def another_seed(moved, other, ours):
    columns = ("val_recon", "val_kl"), ("val_recon",), ("val_kl",), ("recon", "kl")
    total, recon, kl, training = (abs(last(other, *names) - last(ours, *names)) for names in columns)
    if other["recon"] == ours["recon"]:
        raise Wrong("the two histories are one and the same run: torch.manual_seed comes before helpers.VAE()")
    if len(other["recon"]) != len(ours["recon"]):
        raise Wrong(f"expected two runs of {len(ours['recon'])} epochs, received one of {len(other['recon'])}")
    mistakes = {
        "that is val_recon alone; the loss is val_recon + val_kl": recon,
        "that is val_kl alone; the loss is val_recon + val_kl": kl,
        "those are the training columns; compare val_recon + val_kl": training,
    }
    compare(abs(numbers(moved)), total, 0.02, mistakes)
    return "The loss hardly knows the seed. Now look at the two maps."


@task("3.3", "one number, the share of the way from PCA to the floor, between 0 and 1")
def fifth_of_the_time(share, quick):
    cost, recon, training = last(quick, "val_recon", "val_kl"), last(quick, "val_recon"), last(quick, "recon", "kl")
    if (epochs := len(quick["recon"])) != 2:
        raise Wrong(f"that history has {epochs} epochs, expected 2: train a new model with epochs=2")
    top, pca, floor = 543.43, 301.88, 189.86
    truth = (pca - cost) / (pca - floor)
    mistakes = {
        "that counts val_recon alone; the cost is val_recon + val_kl": (pca - recon) / (pca - floor),
        "that is the training cost; use val_recon + val_kl": (pca - training) / (pca - floor),
        "that is what is left to the floor": 1 - truth,
        "that way starts at ½ for every pixel; start at PCA": (top - cost) / (top - floor),
        "that is a share of the whole cost of PCA; divide by the room above the floor": (pca - cost) / pca,
    }
    compare(share, truth, 0.01, mistakes)
    return "Most of what ten epochs gain, for a fifth of the work: the cycle fits into two epochs as well."


@task("3.4", "one number, the nats of val_recon paid for each nat of val_kl saved")
def pay_more(price, frugal, ours):
    paid, saved = (last(frugal, name) - last(ours, name) for name in ("val_recon", "val_kl"))
    if saved >= 0:
        raise Wrong("val_kl has not fallen: did helpers.fit get beta=4?")
    training = (last(frugal, "recon") - last(ours, "recon")) / (last(ours, "kl") - last(frugal, "kl") or math.nan)
    mistakes = {
        "that is the saving for each nat paid; the other way round": -saved / paid,
        "those are the training columns; use val_recon and val_kl": training,
        "that is what was paid; divide by the nats of kl saved": paid,
        "kl counts once here, not beta times": -paid / saved / 4,
    }
    compare(price, -paid / saved, 0.01, mistakes)
    return "More than 1, where our model stopped buying, and less than 4, where this one did: beta is a price."


# 4 latent plane


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
    received = torch.stack([numbers(call(within, value)).reshape(()) for value in s])
    compare(received, 1 - torch.exp(-(s**2) / 2), 0.005, mistakes)
    return "At s = 1 it is 39 %, not the 68 % of one coordinate: in two dimensions most draws lie beyond one sigma."


@task("4.2", "a class from 0 to 9 for each test image")
def petals(named, y_test):
    named = shaped(named, y_test.shape).long()
    share = 100 * (named == y_test).double().mean()
    clusters = [y_test[named == k] for k in named.unique()]
    best = 100 * sum((members == members.mode().values).sum() for members in clusters) / len(y_test)
    if share < 45 < best:
        raise Wrong("those are numbers of clusters; give each the commonest class of its training codes")
    if share < 45:
        raise Wrong(f"only {share:.1f} % of these names are right: are clusters and codes of the same model?")
    if share > 66:
        raise Wrong(f"{share:.1f} % is more than ten clusters can do: were these found without labels?")
    return f"{share:.1f} % have the right name: k-means wants round towns, and the petals are wedges."


@task("4.3", "four numbers, the median distance that codes move for shifts to the right by 1, 2, 3 and 4 pixels")
def how_far_is_a_shift(ways, vae, x_test):
    ways, pictures = shaped(ways, (4,)), x_test.view(-1, 28, 28)
    mu, logvar = helpers.encode(vae, x_test)

    def moved(images=pictures, dims=2):
        shifted = (images.roll(pixels, dims=dims).flatten(start_dim=1) for pixels in (1, 2, 3, 4))
        return torch.stack([helpers.encode(vae, x)[0] - mu for x in shifted])

    step = moved()
    way = step.norm(dim=2)
    mistakes = {
        "those are the means, which a few leaping images pull up; take the medians": way.mean(dim=1),
        "those are units of each image's sigma; here plain distance is asked for": (
            (step / torch.exp(logvar / 2)).norm(dim=2).median(dim=1).values
        ),
        "those are squared distances": way.square().median(dim=1).values,
        "those images moved down; to the right is dims=2": moved(dims=1).norm(dim=2).median(dim=1).values,
        "whole rows of 784 were rolled, so each line runs into the next; view(-1, 28, 28) first": (
            moved(x_test, dims=1).norm(dim=2).median(dim=1).values
        ),
    }
    compare(ways, way.median(dim=1).values, 0.01, mistakes)
    return "To you three pixels are the same garment; to this network they are another place."


@task("4.4", "the 200 of 10,000 draws from the prior with the smallest q(z) / p(z), shape (200, 2)")
def mind_the_gap(z_rare, mu_train, logvar_train):
    z, axis = shaped(z_rare, (200, 2)), torch.linspace(-4, 4, 321)
    q = helpers.aggregate_posterior(mu_train, logvar_train, axis)
    p = Normal(0, 1).log_prob(axis).exp()
    p = p[:, None] * p
    found = among_lowest(q / p, p, z)
    if found > 0.95:
        return "The holes are streets as well as outskirts, and a chimera lives in every street."
    if among_lowest(q / p, p, z.flip(1)) > 0.95:
        raise Wrong("z1 and z2 are swapped: rows of q run along z2, columns along z1")
    if among_lowest(q, p, z) > 0.95:
        raise Wrong("those have the smallest q(z), at the rim, where p(z) is small as well; divide by p(z)")
    if among_lowest(-q / p, p, z) > 0.5:
        raise Wrong("those have the largest q(z) / p(z): the densest places, not the holes")
    raise Other(f"received points of which {100 * found:.0f} % lie in the emptiest places")


def among_lowest(values: Tensor, p: Tensor, z: Tensor) -> Tensor:
    """Return the share of the points z in those cells, lowest in `values`, that hold 3 % of the prior p's mass."""
    order = values.flatten().argsort()
    mass = p.flatten()[order].cumsum(dim=0) / p.sum()
    column, row = ((z.clamp(-4, 4) + 4) * 40).round().long().T
    return (values[row, column] <= values.flatten()[order[(mass < 0.03).sum()]]).double().mean()


# 5 generation


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
    wider = z.std(dim=0) / codes.double().std(dim=0)
    if wider.max() > 1.3:
        raise Wrong("these draws spread wider than the codes of the class: was the mixture fitted to all classes?")
    if wider.min() < 0.7:
        raise Wrong("these draws spread less than the codes of the class: draw from the mixture, not around one centre")
    mixture = GaussianMixture(5, random_state=0).fit(codes.numpy())
    if mixture.score(z.numpy()) < mixture.score(codes.numpy()) - 0.4:
        raise Wrong("the spread is right, but many draws lie where no code is: one Gaussian is not enough, take five")
    return "The mixture goes where the codes of the class are: a class mean cannot do that."


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


# 6 exact inference


@task("6.1", "a function of log_w, shape (B, k), that returns the bound from k samples, shape (B,)")
def bound_from_samples(bound):
    log_w = -250 + 3 * torch.randn(8, 500)
    exact = log_w.double().exp().mean(dim=1).log()  # float64 holds e^-250
    log_k = math.log(500)
    mistakes = {
        "that is the ELBO: the average is outside the logarithm": log_w.mean(dim=1),
        "the weights are summed; average them: minus ln k": exact + log_k,
        "ln k is subtracted twice: it is one over k inside the logarithm": exact - log_k,
        "k is the number of columns, here 500": exact + log_k - math.log(1000),
        "that is the largest weight alone": log_w.amax(dim=1),
        "that is one number for all images; return one bound for each": exact.mean(),
        "that averages over the images; the samples are along dim=1": log_w.double().exp().mean(dim=0).log(),
    }
    received = numbers(call(bound, log_w))
    if received.isinf().any():
        raise Wrong("exp(-250) is 0 in float32, and its logarithm infinite: stay in logarithms with logsumexp")
    compare(received, exact, 1e-4, mistakes)
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
        return f"{closed:.0f} % of the mean gap is gone; where the encoder is far off, a search finds the nearest hill."
    if torch.equal(mean, mu):
        raise Wrong("those are the encoder's own means: does the optimizer hold your copies of mu and logvar?")
    for name, value in (("sigma²", log_variance), ("sigma", log_variance.square())):
        if (value > 0).all() and gap(mean, value.log()) < before:
            raise Wrong(f"that is {name}; expected the logarithm of sigma²")
    if closed < 0:
        raise Wrong(f"the mean gap grew from {before:.2f} to {after:.2f} nats: minimise recon + kl, not the ELBO")
    raise Other(f"received Gaussians that close {closed:.0f} % of the mean gap, when 100 steps close most of it")


@task("6.3", "the log-weights of 1,000 draws for each image from a q with twice the sigma, shape (200, 1000)")
def wider_net(wide_w, vae, some, truth):
    wide_w = shaped(wide_w, (len(some), 1000))
    mu, logvar = helpers.encode(vae, some)
    sigma, eps = torch.exp(logvar / 2), torch.randn(60, len(some), 2)
    one = (truth - wide_w.mean(dim=1)).mean()
    every = (truth - wide_w.logsumexp(dim=1) + math.log(1000)).mean()
    if every < -0.5:
        raise Wrong("all 1,000 weights together exceed log p(x): draws and density do not belong to one and the same q")

    def short(spread):
        """How far one draw of this spread falls short of the truth, on average."""
        return (truth - log_weights(vae, some, mu + spread * eps, Normal(mu, spread)).mean(dim=0)).mean()

    mistakes = {
        "sigma is not doubled: those are the weights of the encoder's own q": short(sigma),
        "that doubles the variance; sigma is then only √2 times as large": short(math.sqrt(2) * sigma),
        "twice logvar is sigma squared; twice sigma is logvar + 2 ln 2": short(sigma**2),
    }
    compare(one, short(2 * sigma), 0.06, mistakes, "received weights of which one alone falls short by")
    return f"Short by {one:.1f} nats with one draw, by {every:.1f} with 1,000: a wide net is a bad single guess."


@task("6.4", "two numbers, the correlation of the size of the error with the smaller sigma, and with the radius")
def too_coarse(correlations, vae, x, log_p):
    correlations, axis = shaped(correlations, (2,)), torch.linspace(-5, 5, 60)
    mu, logvar = helpers.encode(vae, x)
    z = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        logits = vae.decode(z)
    of_each_point = Normal(0, 1).log_prob(z).sum(dim=1) - F.softplus(logits).sum(dim=1)
    coarse = torch.cat([(part @ logits.T + of_each_point).logsumexp(dim=1) for part in x.split(1000)])
    error = coarse + 2 * torch.log(axis[1] - axis[0]) - log_p
    narrow = torch.exp(logvar.amin(dim=1) / 2)

    def with_both(error, narrow=narrow):
        return numbers([torch.corrcoef(torch.stack([value, error]))[0, 1] for value in (narrow, mu.norm(dim=1))])

    truth = with_both(error.abs())
    mistakes = {
        "those are correlations with the signed error; take its absolute value": with_both(error),
        "the two are swapped: first sigma, then the radius": truth.flip(0),
        "that is the correlation with log sigma²; take sigma": with_both(error.abs(), 2 * narrow.log()),
        "that is the correlation with sigma²; take sigma": with_both(error.abs(), narrow**2),
    }
    compare(correlations, truth, 0.015, mistakes)
    return "Narrow posteriors fall between the points of a grid, wherever they are."


# 7 failure clinic


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
