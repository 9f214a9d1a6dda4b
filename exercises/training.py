"""The checkers of notebook 03: one step of training, and whole trainings by their histories."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

import helpers
from exercises import Missing, Wrong, call, compare, numbers, task


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
        order = "the weights of `model` have not moved: the order is zero_grad, backward, step, all with this model"
        raise Wrong(order) if done else Missing
    if not any(weight.grad is not None and weight.grad.any() for weight in weights):
        late = "zero_grad comes last: right only where no gradient is left from earlier, as one is here"
        mistakes = {late: truth + 5, **mistakes}
    compare(used, truth, 0.002, mistakes, "received weights that were moved by the gradient", factors=False)
    if torch.equal(*(moved_by(step, seed) for seed in (0, 1))):
        raise Wrong("there is no chance in it: decode a draw z, as model(batch) does, and not mu")
    return "These lines, 4,300 times, are all of the training; the rest is the learning rate."


def moved_by(step, seed: int) -> Tensor:
    """Return the weights of a small model after one step, in which only the draws depend on `seed`."""
    torch.default_generator.manual_seed(0)  # and not those of other devices, which `check` does not bring back
    model, x = helpers.VAE(hidden=(16,)), torch.rand(16, 784)
    torch.default_generator.manual_seed(seed)
    step(model, torch.optim.SGD(model.parameters(), lr=1e-3), x)
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


def gradients_of(model, x: Tensor, weights: list) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the gradient of the loss in one vector, and those that likely mistakes lead to."""

    def cost(logits):
        return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)

    logits, mu, logvar = model(x)
    recon = cost(logits)
    kl = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0, 1)).sum(dim=1)

    def gradient(loss):
        parts = torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
        return torch.nn.utils.parameters_to_vector(parts)

    truth = gradient((recon + kl).mean())
    return truth, {
        "the weights were moved twice": 2 * truth,
        "no gradient comes back through the draw: z is mu + sigma * eps, as model(batch) has it": (
            gradient((cost(model.decode(mu.detach())) + kl).mean())
        ),
        "an earlier step's gradient is still in it: optimizer.zero_grad() before loss.backward()": truth + 5,
        "only an earlier step's gradient was used: the order is zero_grad, backward, step": truth * 0 + 5,
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
        columns = f" with {', '.join(map(repr, history)) or 'nothing in it'}" if isinstance(history, dict) else ""
        received = f"received a {type(history).__name__}{columns}"
        raise Wrong(f"expected a history, the dictionary that helpers.fit returns, {received}")
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
    compare(abs(numbers(moved)), total, max(0.02, 0.06 / total), mistakes)  # one decimal, as in the table, is enough
    if total > 2:
        return "One of the two runs has ended badly; that happens. Now look at the two maps."
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
    if truth < 0.3:
        return "But this run gained less than two epochs usually do."
    return "Most of what ten epochs gain, for a fifth of the work: the cycle fits into two epochs as well."


@task("3.4", "one number, the nats of val_recon paid for each nat of val_kl saved")
def pay_more(price, frugal, ours):
    paid, saved = (last(frugal, name) - last(ours, name) for name in ("val_recon", "val_kl"))
    if saved >= 0:
        raise Wrong("val_kl has not fallen: did helpers.fit get beta=4?")
    training = (last(frugal, "recon") - last(ours, "recon")) / (last(ours, "kl") - last(frugal, "kl") or math.nan)
    truth = -paid / saved
    mistakes = {
        "that is the saving for each nat paid; the other way round": -saved / paid,
        "those are the training columns; use val_recon and val_kl": training,
        "that is what was paid; divide by the nats of kl saved": paid,
        "kl counts once here, not beta times": truth / 4,
    }
    compare(price, truth, 0.01, mistakes)
    if not 1 < truth < 4:
        return "A price outside 1 to 4 shows that one of the two trainings has not found its best model."
    return "More than 1, where our model stopped buying, and less than 4, where this one did: beta is a price."
