"""The checkers of notebook 01: the price of the greys, PCA, and the choice of k."""

import math

import torch
from scipy.spatial import cKDTree
from torch.nn import functional as F

import helpers
from exercises import Wrong, compare, numbers, shaped, task


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
    nearest = torch.from_numpy(cKDTree(numbers(z)).query(numbers(z_val), 100)[1])
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
