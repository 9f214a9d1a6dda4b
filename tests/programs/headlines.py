"""headlines.py CHECKPOINT FOLDER COUNT: ten numbers of notebook 06 on the first COUNT test images, with NumPy alone.

It knows nothing of the series but the shape of its checkpoint, and takes other ways where it can: a plain grid of
800 x 800 points without refinement, quadrature of 12 x 12 nodes, float64 for every sum. FOLDER holds the IDX files.
Of a decoder without an encoder it prints the exact cost, as in notebook 07.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch  # to read the checkpoint, and for nothing else

SIZE, HALF_WIDTH, NODES = 800, 5.0, 12
checkpoint, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
weights = {
    name: value.float().numpy().T for name, value in torch.load(checkpoint, weights_only=True)["weights"].items()
}
x = np.frombuffer((folder / "t10k-images-idx3-ubyte").read_bytes(), np.uint8, offset=16)
x = (x.reshape(-1, 784)[:count] / 255).astype(np.float32)


def network(part, values):
    """The layers of the encoder or the decoder, with SiLU, h / (1 + exp(-h)), between them."""
    layers = sorted({int(name.split(".")[1]) for name in weights if name.startswith(part)})
    for layer in layers:
        if layer != layers[0]:
            with np.errstate(over="ignore"):
                values = values / (1 + np.exp(-values))
        values = values @ weights[f"{part}.{layer}.weight"] + weights[f"{part}.{layer}.bias"]
    return values


def log_prior(z):
    return -(z.astype(np.float64) ** 2).sum(axis=1) / 2 - math.log(2 * math.pi)


def log_p(size):
    """log p(x) of every image by a sum over the middles of size x size cells."""
    h = 2 * HALF_WIDTH / size
    axis = (np.arange(size) + 0.5) * h - HALF_WIDTH
    total = np.full(len(x), -np.inf)
    for z1 in np.array_split(axis, size // 20):
        z = np.stack(np.meshgrid(z1, axis, indexing="ij"), axis=2).reshape(-1, 2)
        logits = network("decoder", z.astype(np.float32))
        of_blank = log_prior(z) - np.logaddexp(0, logits).sum(axis=1, dtype=np.float64)
        for start in range(0, len(x), 500):
            joint = x[start : start + 500] @ logits.T + of_blank
            peak = joint.max(axis=1, keepdims=True)
            sums = peak[:, 0] + np.log(np.exp(joint - peak).sum(axis=1))
            total[start : start + 500] = np.logaddexp(total[start : start + 500], sums)
    return total + 2 * math.log(h)


truth = log_p(SIZE)
if not any(name.startswith("encoder") for name in weights):
    print(json.dumps({"truth": -truth.mean()}))
    sys.exit()
h = network("encoder", x)
mu, raw = h[:, :2].astype(np.float64), h[:, 2:].astype(np.float64)
sigma = np.sqrt(1 / (1 + np.exp(-raw)))
kl = (mu**2 + sigma**2 - 1 - 2 * np.log(sigma)).sum(axis=1) / 2
node, weight = np.polynomial.hermite.hermgauss(NODES)  # for exp(-t^2): z = mu + sqrt(2) sigma t
recon = np.zeros(len(x))
for t1, w1 in zip(node, weight):
    for t2, w2 in zip(node, weight):
        logits = network("decoder", (mu + math.sqrt(2) * sigma * [t1, t2]).astype(np.float32))
        cost = np.logaddexp(0, logits).sum(axis=1, dtype=np.float64) - (x * logits).sum(axis=1, dtype=np.float64)
        recon += w1 * w2 / math.pi * cost
gap = truth + recon + kl
worst = np.sort(gap)[::-1].cumsum() / gap.sum()
print(
    json.dumps(
        {
            "recon": recon.mean(),
            "kl": kl.mean(),
            "bound": (recon + kl).mean(),
            "truth": -truth.mean(),
            "gap, mean": gap.mean(),
            "gap, median": np.median(gap),
            "gap, smallest": gap.min(),
            "worst 1 %": 100 * worst[max(1, len(x) // 100) - 1],
            "worst 10 %": 100 * worst[max(1, len(x) // 10) - 1],
            "100 x 100 cells, mean error": (log_p(100) - truth).mean(),
        }
    )
)
