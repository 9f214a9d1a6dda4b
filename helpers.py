"""What the story of the series needs, in its order. Each formula is derived in a notebook and kept here.

Symbols, the same in every notebook, figure and test (B images in a batch, Z latent dimensions, 2 in most notebooks):
    x       (B, 784)  images, float32 in [0, 1], 28 x 28 pixels in rows
    mu      (B, Z)    mean of q(z|x)          logvar  (B, Z)    log of its variance
    z       (B, Z)    a draw from q(z|x)      logits  (B, 784)  decoder output; sigmoid(logits) is the image x_hat
    recon   (B,)      reconstruction loss     kl      (B,)      KL(q(z|x) || p(z))
    nelbo   (B,)      recon + kl = -elbo
Every likelihood quantity is in nats per image: summed over pixels and latent dimensions, averaged over images only.
"""

import csv
import io
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.datasets import FashionMNIST
from tqdm.auto import tqdm

import storage

# data

CLASSES = tuple(FashionMNIST.classes)
SPLITS = {"train": slice(55_000), "validation": slice(55_000, 60_000), "test": slice(10_000)}


def open_fashion_mnist(train: bool) -> FashionMNIST:
    """Return torchvision's data set of the training or the test file, found on this machine or downloaded.

    Raises FileNotFoundError when there is no way to the files, ValueError when one of them is not the original.
    """
    return FashionMNIST(storage.fetch_fashion_mnist(), train=train)


def load_fashion_mnist(split: str) -> tuple[Tensor, Tensor]:
    """Return the images (N, 784), float32 in [0, 1], and the labels (N,), int64, of one split.

    "train" is the first 55,000 images of the training file, "validation" its last 5,000, "test" the 10,000 of the test
    file. Raises ValueError for another name, and what `open_fashion_mnist` raises.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, received {split!r}")
    dataset, part = open_fashion_mnist(train=split != "test"), SPLITS[split]
    return dataset.data[part].flatten(1).float().div_(255), dataset.targets[part].clone()


# model


def mlp(*sizes: int) -> nn.Sequential:
    """Return linear layers of the given sizes with SiLU between them. Derived in notebook 02."""
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:]):
        layers += [nn.Linear(n_in, n_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class VAE(nn.Module):
    """Variational autoencoder with a Gaussian posterior and a Bernoulli decoder (Kingma & Welling 2014, App. C).

    `hidden` holds the widths of the encoder's hidden layers; the decoder has them in reverse. Derived in notebook 02.
    """

    def __init__(self, latent_dim: int = 2, hidden: tuple[int, ...] = (256, 256, 256, 256)):
        super().__init__()
        self.config = {"latent_dim": latent_dim, "hidden": list(hidden)}
        self.encoder = mlp(784, *hidden, 2 * latent_dim)
        self.decoder = mlp(latent_dim, *reversed(hidden), 784)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and logvar (B, latent_dim) of q(z|x) for x (B, 784)."""
        mu, h = self.encoder(x).chunk(2, dim=1)
        return mu, F.logsigmoid(h)  # the variance is sigmoid(h): never above the prior's 1, so never explosive

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Return one draw z (B, latent_dim) from q(z|x) for each image, a function of mu and logvar (section 2.4)."""
        return mu + torch.exp(logvar / 2) * torch.randn_like(mu)

    def decode(self, z: Tensor) -> Tensor:
        """Return the logits (B, 784) of p(x|z) for z (B, latent_dim)."""
        return self.decoder(z)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, 784), mu and logvar (B, latent_dim) for x (B, 784), with z drawn once per image."""
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


# objective


def cross_entropy(x: Tensor, p: Tensor) -> Tensor:
    """Return what the predictions p, (B, 784) or one for all (784,), cost for the images x (B, 784), in nats (B,).

    The cross-entropy of a Bernoulli per pixel, summed. Raises ValueError for other shapes. Derived in notebook 01.
    """
    p = p.expand(len(x), -1) if p.dim() == 1 else p
    check_same_shape("x", x, "p", p)
    return F.binary_cross_entropy(p, x, reduction="none").sum(dim=1)


def reconstruction_loss(x: Tensor, logits: Tensor) -> Tensor:
    """Return -log p(x|z) (B,) of a Bernoulli per pixel, in nats: the cross-entropy, from logits, summed over pixels.

    Kingma & Welling 2014, App. C.1. Raises ValueError when the shapes differ. Derived in notebook 02.
    """
    check_same_shape("x", x, "logits", logits)
    return (F.softplus(logits) - x * logits).sum(dim=1)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(mu, exp(logvar)) || N(0, I)) (B,), in nats, summed over latent dimensions.

    Kingma & Welling 2014, App. B. Raises ValueError when the shapes differ. Derived in notebook 02.
    """
    return kl_per_dimension(mu, logvar).sum(dim=1)


def kl_per_dimension(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return what each latent dimension contributes to `kl_divergence` (B, Z), in nats."""
    check_same_shape("mu", mu, "logvar", logvar)
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def check_same_shape(name_a: str, a: Tensor, name_b: str, b: Tensor) -> None:
    """Raise ValueError unless a and b are matrices of one shape."""
    if a.shape != b.shape or a.dim() != 2:
        raise ValueError(f"{name_a} and {name_b}: expected one shape (B, n), received {(*a.shape,)} and {(*b.shape,)}")


def check_images(name: str, x: Tensor) -> None:
    """Raise ValueError unless x holds float32 images (N, 784) in [0, 1]."""
    if not (torch.is_tensor(x) and x.dtype == torch.float32 and x.dim() == 2 and x.shape[1] == 784 and len(x) > 0):
        received = f"{x.dtype} {tuple(x.shape)}" if torch.is_tensor(x) else type(x).__name__
        advice = "load_fashion_mnist makes them, and one of them is x[i : i + 1]"
        raise ValueError(f"{name}: expected float32 images (N, 784) in [0, 1], received {received}; {advice}")
    low, high = x.min().item(), x.max().item()
    if not (0 <= low and high <= 1):
        raise ValueError(f"{name}: expected pixels in [0, 1], received {low:g} to {high:g}; divide bytes by 255 only")


# training


def set_seed(seed: int) -> int:
    """Seed torch's global generator, and return the seed, for what takes one of its own (`random_state`)."""
    seed += 1000 * int(os.environ.get("VAE_SEED") or 0)  # with which tools/notebooks.py seeds reruns a notebook
    torch.manual_seed(seed)
    return seed


def fit(
    model: VAE,
    x: Tensor,
    x_val: Tensor,
    epochs: int = 10,
    batch_size: int = 128,
    max_lr: float = 3e-3,
    beta: float | Callable[[float], float] = 1.0,
    on_epoch: Callable[[int, VAE], None] | None = None,
    on_step: Callable[[int, VAE], None] | None = None,
    progress: bool = True,
) -> dict[str, list[float]]:
    """Train `model` in place on x (N, 784), on the device it lives on, and return the history.

    Minimises recon + beta * kl with Adam and a one-cycle learning rate (Smith & Topin 2018, arXiv:1708.07120); `beta`
    may be a function of the share of the steps that is done. The history holds one number per epoch: recon and kl
    (means over the training images while they were learned), val_recon and val_kl (after the epoch), in nats per image,
    and seconds. `on_epoch(epoch, model)` and `on_step(step, model)` are called after each, counted from 1. All draws
    come from torch's global generator: seed it for a repeatable run. Interrupting keeps what was learned. Raises
    ValueError for bad images or numbers, FloatingPointError for a loss that is not finite. Derived in notebook 03.
    """
    check_images("x", x)
    check_images("x_val", x_val)
    if not (epochs >= 1 and batch_size >= 1 and max_lr > 0 and (callable(beta) or beta >= 0)):
        received = f"received {epochs}, {batch_size}, {max_lr}, {beta}"
        raise ValueError(f"expected epochs and batch_size >= 1, max_lr > 0, beta >= 0, {received}")
    x = x.to(next(model.parameters()).device)
    steps = epochs * math.ceil(len(x) / batch_size)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99), fused=True)  # 0.99: forgets a spike sooner
    rise = 0.1 if steps > 10 else 0.3  # OneCycleLR divides by zero where the rate rises for one step
    schedule = OneCycleLR(optimizer, max_lr, total_steps=max(2, steps), pct_start=rise, cycle_momentum=False)
    history = {"recon": [], "kl": [], "val_recon": [], "val_kl": [], "seconds": []}
    with tqdm(total=steps, desc="training", unit="step", leave=False, disable=not progress) as bar:
        try:
            for epoch in range(1, epochs + 1):
                start = time.perf_counter()
                recon, kl = _train_epoch(model, x, batch_size, beta, optimizer, schedule, bar, on_step)
                val_recon, val_kl = (term.mean().item() for term in evaluate(model, x_val))
                row = recon, kl, val_recon, val_kl, time.perf_counter() - start
                if not all(map(math.isfinite, row)):
                    raise FloatingPointError(f"epoch {epoch}: the loss is not finite; start anew, max_lr < {max_lr:g}")
                for values, value in zip(history.values(), row):
                    values.append(value)
                bar.set_postfix(training=f"{recon + kl:.1f}", validation=f"{val_recon + val_kl:.1f}")
                if on_epoch:
                    on_epoch(epoch, model)
        except KeyboardInterrupt:
            bar.write(f"Stopped in epoch {epoch} of {epochs}: the model keeps all it learned, the history full epochs.")
    model.eval()
    return history


def _train_epoch(model, x, batch_size, beta, optimizer, schedule, bar, on_step) -> tuple[float, float]:
    recon_sum, kl_sum = x.new_zeros(2)  # they stay on the device until the epoch ends: the loop never waits for it
    for index in torch.randperm(len(x), device=x.device).split(batch_size):
        model.train()  # in each step: whoever looks at it from `on_step` leaves it evaluating
        batch = x.index_select(0, index)
        logits, mu, logvar = model(batch)
        recon, kl = reconstruction_loss(batch, logits), kl_divergence(mu, logvar)
        weight = beta(schedule.last_epoch / schedule.total_steps) if callable(beta) else beta
        optimizer.zero_grad()
        (recon + weight * kl).mean().backward()
        optimizer.step()
        schedule.step()
        recon_sum += recon.detach().sum()
        kl_sum += kl.detach().sum()
        bar.update()
        if on_step:
            on_step(schedule.last_epoch, model)
    return recon_sum.item() / len(x), kl_sum.item() / len(x)


@torch.no_grad()
def evaluate(model: VAE, x: Tensor, batch_size: int = 1000) -> tuple[Tensor, Tensor]:
    """Return recon (N,) and kl (N,) of the images x (N, 784) in nats, on the CPU, with one draw of z for each image.

    The caller averages; recon + kl is the negative ELBO. Raises ValueError for bad images. Derived in notebook 03.
    """
    check_images("x", x)
    model.eval()
    terms = []
    for batch in x.to(next(model.parameters()).device).split(batch_size):
        logits, mu, logvar = model(batch)
        terms.append((reconstruction_loss(batch, logits).cpu(), kl_divergence(mu, logvar).cpu()))
    return tuple(map(torch.cat, zip(*terms)))


def train_judge(x: Tensor, y: Tensor, epochs: int = 5) -> nn.Module:
    """Return a classifier of images (N, 784), trained on x with the classes y (N,): it judges what a model draws."""
    judge = mlp(784, 256, 256, len(CLASSES))
    optimizer = torch.optim.Adam(judge.parameters(), fused=True)
    schedule = OneCycleLR(optimizer, max_lr=3e-3, total_steps=epochs * math.ceil(len(x) / 128))
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            F.cross_entropy(judge(x[index]), y[index]).backward()
            optimizer.step()
            schedule.step()
    return judge.requires_grad_(False)


# checkpoints

REFERENCE = storage.ROOT / "checkpoints" / "vae.pt"
OWN_WEIGHTS = storage.OUTPUT / "checkpoints" / "my_vae.pt"


def save_checkpoint(model: VAE, path: Path | str = OWN_WEIGHTS) -> None:
    """Write the weights and the config of `model` to `path`: the whole file or none of it, whenever the process dies.

    Raises OSError when the file cannot be written; an older file at `path` then stays as it was.
    """
    content = io.BytesIO()  # torch.save itself says nothing clear of a full disk
    torch.save({"config": model.config, "weights": {k: v.cpu() for k, v in model.state_dict().items()}}, content)
    with storage.whole_file(Path(path)) as scratch:
        scratch.write_bytes(content.getvalue())


def load_vae(path: Path | str | None = None) -> VAE:
    """Return the trained VAE, on the CPU, and print which one it is: your own from notebook 03, else the reference.

    A decoder alone (notebook 07) has None for an encoder. Raises FileNotFoundError or ValueError for no checkpoint.
    """
    path = Path(path or (OWN_WEIGHTS if OWN_WEIGHTS.is_file() else REFERENCE)).resolve()
    shipped = path.parent == REFERENCE.resolve().parent and path.name in ("vae.pt", "decoder_alone.pt", "judge.pt")
    advice = "`git checkout checkpoints` brings back what was shipped" if shipped else "run notebook 03 to make one"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint, found no such file; {advice}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)  # unpickles tensors and plain values only
        model = VAE(**checkpoint["config"])
        model.encoder = model.encoder if any("encoder" in name for name in checkpoint["weights"]) else None
        model.load_state_dict(checkpoint["weights"])
    except Exception as error:  # torch.load raises nine kinds, by what is wrong with the file
        reason = f"{path} is not a checkpoint of this series ({' '.join(str(error).split())[:200]})"
        raise ValueError(f"{reason}; {advice}.") from error
    print(f"Weights: {'the reference' if shipped else 'your own'}, {path.parent.name}/{path.name}")
    return model.eval()


# claims

LONG = storage.ROOT / "notebooks" / "long.csv"  # each row with its seconds, date, processor and commit
CLAIMS = storage.ROOT / "notebooks" / "claims.json"  # only `tools/notebooks.py run --record` writes it


def claim(name: str, value: float, unit: str = "", tol: float = 0, effect: bool = False) -> None:
    """Print a measured number on which the text relies, behind a mark that says whether the text holds for it.

    ✓: within `tol` of what was recorded when the text was written. ✗: not so. ·: nothing was recorded. `tol` says how
    far an honest rerun may land, and sets the digits of a float; 0 is for integers, with ValueError for others.
    `effect` marks a difference on which a conclusion rests: its record is at least three times `tol`.
    """
    value = value.item() if hasattr(value, "item") else value  # of numpy as well; a count stays an integer
    shown = f"{name}: {_digits(value, tol)} {unit}".rstrip()
    asked = {"unit": unit, "tol": tol, "effect": effect}
    record = json.loads(CLAIMS.read_text(encoding="utf-8")).get(name) if CLAIMS.is_file() else None
    if record is None:
        print(f"· {shown}")
    elif abs(value - record["value"]) <= tol + 1e-9 and asked.items() <= record.items():
        print(f"✓ {shown}")
    else:
        expected = " ± ".join(_digits(record[key], record["tol"]) for key in ("value", "tol"))
        print(f"✗ {shown} (the text was written for {expected})")
    if log := os.environ.get("VAE_CLAIM_LOG"):  # with which tools/notebooks.py collects what was measured
        with open(log, "a", encoding="utf-8") as file:
            print(json.dumps({"name": name, "value": value, **asked}), file=file)


def long_row(name: str) -> dict[int, float]:
    """Return the values by seed of a row that takes too long to compute in a notebook; ValueError if there is none."""
    lines = csv.DictReader(LONG.read_text(encoding="utf-8").splitlines())
    row = {int(line["seed"]): float(line["value"]) for line in lines if line["row"] == name}
    if not row:
        raise ValueError(f"name: there is no row {name!r} in {LONG.name}; `tools/notebooks.py long` computes them")
    return row


def _digits(value: float, tol: float) -> str:
    if tol == 0 and value % 1 != 0:
        raise ValueError(f"value: expected an integer where tol is 0, received {value:g}; say how far a rerun may land")
    decimals = max(0, 1 - math.floor(math.log10(tol))) if tol and isinstance(value, float) else 0
    return f"{value:z,.{decimals}f}"


# latent space


@torch.no_grad()
def encode(model: VAE, x: Tensor, batch_size: int = 1000) -> tuple[Tensor, Tensor]:
    """Return mu (N, Z) and logvar (N, Z) of the images x (N, 784), on the CPU. Raises ValueError for bad images."""
    check_images("x", x)
    model.eval()
    mu, logvar = zip(*map(model.encode, x.to(next(model.parameters()).device).split(batch_size)))
    return torch.cat(mu).cpu(), torch.cat(logvar).cpu()


@torch.no_grad()
def decode(model: VAE, z: Tensor) -> Tensor:
    """Return the images x_hat (N, 784) = sigmoid(logits) of the points z (N, Z), on the CPU; ValueError for a bad z."""
    latent_dim = model.config["latent_dim"]
    if z.dim() != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"z: expected shape (N, {latent_dim}), received {tuple(z.shape)}; one point is z[None]")
    model.eval()
    return torch.sigmoid(model.decode(z.float().to(next(model.parameters()).device))).cpu()


def plane_grid(z1: Tensor, z2: Tensor | None = None) -> Tensor:
    """Return the points (len(z2) * len(z1), 2) of a grid row by row: z1 along a row, z2 (else z1) from row to row."""
    return torch.cartesian_prod(z1 if z2 is None else z2, z1).flip(1)


def cell_of(z: Tensor, axis: Tensor) -> Tensor:
    """Return the index (N,) in `plane_grid(axis)` of the point nearest to each z (N, 2); `axis` has even steps."""
    check_plane("z", z)
    column, row = ((z - axis[0]) / (axis[1] - axis[0])).round().clamp(0, len(axis) - 1).long().T
    return row * len(axis) + column


def aggregate_posterior(mu: Tensor, logvar: Tensor, axis: Tensor) -> Tensor:
    """Return q(z), the mean of the posteriors N(mu, exp(logvar)), both (N, 2), on the grid axis x axis.

    Row i of the result (G, G) has z2 = axis[i], column j has z1 = axis[j]: a density per unit of area of the plane.
    Hoffman & Johnson 2016. Raises ValueError for other than two dimensions. Derived in notebook 04.
    """
    check_same_shape("mu", mu, "logvar", logvar)
    check_plane("mu", mu)
    q = torch.zeros(len(axis), len(axis))
    for mean, sigma in zip(mu.split(1000), torch.exp(logvar / 2).split(1000)):
        along_z1, along_z2 = Normal(mean.T[..., None], sigma.T[..., None]).log_prob(axis).exp()
        q += along_z2.T @ along_z1 / len(mu)
    return q


def check_plane(name: str, z: Tensor) -> None:
    """Raise ValueError unless z holds points (N, 2)."""
    if z.dim() != 2 or z.shape[1] != 2:
        raise ValueError(f"{name}: expected shape (N, 2), received {tuple(z.shape)}")
