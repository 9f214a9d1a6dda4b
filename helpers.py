"""Shared code of the walkthrough: what two notebooks use, and the plumbing that the story need not show.

Symbols, the same in every notebook, figure and test (B images in a batch, Z = 2 latent dimensions):
    x       (B, 784)  images, float32 in [0, 1], 28 x 28 pixels in rows
    mu      (B, Z)    mean of q(z|x)          logvar  (B, Z)  log of its variance
    z       (B, Z)    a draw from q(z|x)      logits  (B, 784)  decoder output; sigmoid(logits) is the image x_hat
    recon   (B,)      reconstruction loss     kl      (B,)    KL(q(z|x) || p(z));  elbo = -(recon + kl)
Every likelihood quantity is in nats per image: summed over pixels and latent dimensions, averaged over images only.

Sections: settings, data, model, objective, training, checkpoints, claims, latent space, exact inference, figures,
explorer.
"""

import base64
import copy
import gzip
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
import time
import warnings
import zlib
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import ipywidgets
import matplotlib.patheffects
import matplotlib.pyplot as plt
import torch
import traitlets
from matplotlib.collections import EllipseCollection
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.datasets import FashionMNIST
from tqdm.auto import tqdm

try:
    import anywidget
except ImportError:  # the explorer then has sliders and no map
    anywidget = None

# settings

ROOT = Path(__file__).resolve().parent
DATA = ROOT / "data"
OUTPUT = Path(os.environ.get("VAE_OUTPUT", ROOT))  # the tests point it elsewhere, so that they overwrite nothing
CLASSES = tuple(FashionMNIST.classes)
COLORS = (  # ten colours that colour-blind readers can tell apart (Petroff 2021, arXiv:2107.02270)
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
LATENT_LIMIT = 4.0  # the latent plane is drawn on [-4, 4] x [-4, 4] in every notebook

# data

IDX_SHA256 = {  # of the uncompressed files
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
DEBIAN_PACKAGE = Path("/usr/share/datasets/fashion-mnist")
THREE_WAYS = (
    "There are three ways to get the data: (1) connect to the internet and run this again; (2) on Debian or Ubuntu, "
    "`apt-get install dataset-fashion-mnist`; (3) set FASHION_MNIST_DIR to a folder with the files "
    f"{', '.join(f'{name}.gz' for name in IDX_SHA256)}."
)


def load_fashion_mnist(split: str) -> tuple[Tensor, Tensor]:
    """Return the images (N, 784), float32 in [0, 1], and the labels (N,), int64, of one split.

    "train" is the first 55,000 images of the training file, "validation" its last 5,000, "test" the 10,000 of the test
    file. Raises ValueError for another name, and what `fetch_fashion_mnist` raises. Used from notebook 01 on.
    """
    parts = {"train": slice(55_000), "validation": slice(55_000, 60_000), "test": slice(10_000)}
    if split not in parts:
        raise ValueError(f"split: expected one of {', '.join(parts)}, received {split!r}")
    dataset = FashionMNIST(fetch_fashion_mnist(), train=split != "test")
    part = parts[split]
    return dataset.data[part].flatten(1).float().div_(255), dataset.targets[part].clone()


def fetch_fashion_mnist() -> Path:
    """Return the folder that torchvision reads Fashion-MNIST from, after filling it where necessary.

    Looks in data/, in the folder named by FASHION_MNIST_DIR, where the Debian package dataset-fashion-mnist puts its
    files, and then downloads. All four files are checked against their SHA-256. Raises FileNotFoundError when no way
    leads to the data, ValueError when a file is damaged, OSError when data/ cannot be written; nothing half-written
    stays.
    """
    given = Path(os.environ["FASHION_MNIST_DIR"]) if os.environ.get("FASHION_MNIST_DIR") else None
    if given and not given.is_dir():
        raise FileNotFoundError(f"FASHION_MNIST_DIR: expected a folder, but there is no {given}. {THREE_WAYS}")
    for root in filter(None, (DATA, given)):
        if all((_raw(root) / name).is_file() for name in IDX_SHA256):
            for name in IDX_SHA256:
                _verify(_raw(root) / name, name)
            return root
    source = given or (DEBIAN_PACKAGE if DEBIAN_PACKAGE.is_dir() else None)
    try:
        _raw(DATA).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=DATA) as scratch:
            folder = _unpack(source, Path(scratch)) if source else _download(Path(scratch))
            for name in IDX_SHA256:
                os.replace(folder / name, _raw(DATA) / name)
    except OSError as error:
        if error.errno is None:  # the message is ours
            raise
        raise type(error)(
            f"{DATA} cannot be filled: {error}. Make the folder writable and 60 MB of room, or unpack the four files "
            "into FashionMNIST/raw/ in another folder and set FASHION_MNIST_DIR to that folder."
        ) from error
    return DATA


def _raw(root: Path) -> Path:
    return root / "FashionMNIST" / "raw"


def _unpack(source: Path, target: Path) -> Path:
    source = _raw(source) if _raw(source).is_dir() else source
    for name in IDX_SHA256:
        original = source / name if (source / name).is_file() else source / f"{name}.gz"
        if not original.is_file():
            raise FileNotFoundError(f"{source}: expected the file {name}.gz, which is missing. {THREE_WAYS}")
        try:
            with (gzip.open if original.suffix else open)(original, "rb") as old, (target / name).open("wb") as new:
                shutil.copyfileobj(old, new)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            reason = f"{original} is damaged ({error})"
            raise ValueError(f"{reason}. Replace it by the original file and run this again.") from error
        _verify(target / name, name, original)
    return target


def _download(target: Path) -> Path:
    try:
        FashionMNIST(target, download=True)  # checks the MD5 of what it gets
    except (OSError, RuntimeError, HTTPException) as error:
        reason = f"Fashion-MNIST is not in {DATA}, and the download failed ({' '.join(str(error).split())})"
        raise FileNotFoundError(f"{reason}. {THREE_WAYS}") from error
    return _raw(target)


def _verify(path: Path, name: str, original: Path | None = None) -> None:
    expected, found = IDX_SHA256[name], hashlib.sha256(path.read_bytes()).hexdigest()
    if found == expected:
        return
    ours = original is None and path.is_relative_to(DATA)
    advice = "Delete it and run this again" if ours else "Replace it by the original file"
    differ = f"expected SHA-256 {expected[:12]}..., found {found[:12]}..."
    raise ValueError(f"{original or path} is not the original file: {differ} {advice}.")


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


def reconstruction_loss(x: Tensor, logits: Tensor) -> Tensor:
    """Return -log p(x|z) (B,) of a Bernoulli per pixel, in nats: cross-entropy summed over pixels, from logits.

    Kingma & Welling 2014, App. C.1. Raises ValueError when the shapes differ. Derived in notebook 02.
    """
    _check_same_shape("x", x, "logits", logits)
    # The same as F.binary_cross_entropy_with_logits, and as safe from overflow, but without its log1p, which in some
    # builds of PyTorch takes ten times as long as log on the CPU: a tenth of the time of training.
    size = logits.abs()
    return ((0.5 - x) * logits + size / 2 - torch.sigmoid(size).log()).sum(dim=1)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(mu, exp(logvar)) || N(0, I)) (B,), in nats, summed over latent dimensions.

    Kingma & Welling 2014, App. B. Raises ValueError when the shapes differ. Derived in notebook 02.
    """
    _check_same_shape("mu", mu, "logvar", logvar)
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(dim=1)


def _check_same_shape(name_a: str, a: Tensor, name_b: str, b: Tensor) -> None:
    if a.shape != b.shape or a.dim() != 2:
        raise ValueError(
            f"{name_a} and {name_b}: expected one shape (B, n), received {tuple(a.shape)} and {tuple(b.shape)}"
        )


def _check_images(name: str, x: Tensor) -> None:
    good = torch.is_tensor(x) and x.dtype == torch.float32 and x.dim() == 2 and x.shape[1] == 784 and len(x) > 0
    if not good:
        received = f"{x.dtype} {tuple(x.shape)}" if torch.is_tensor(x) else type(x).__name__
        raise ValueError(
            f"{name}: expected float32 images (N, 784) in [0, 1], received {received}; load_fashion_mnist makes them"
        )
    low, high = x.min().item(), x.max().item()
    if not (0 <= low and high <= 1):
        raise ValueError(
            f"{name}: expected pixels in [0, 1], received {low:g} to {high:g}; divide bytes by 255, do not standardise"
        )


# training


def best_device() -> torch.device:
    """Return the CUDA device when there is one, else the CPU. Apple's GPU works on request: `model.to("mps")`."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    model: VAE,
    x: Tensor,
    x_val: Tensor,
    epochs: int = 10,
    batch_size: int = 128,
    max_lr: float = 3e-3,
    beta: float = 1.0,
    on_epoch=None,
    progress: bool = True,
) -> dict[str, list[float]]:
    """Train `model` in place on x (N, 784), on the device it lives on, and return the history.

    Minimises recon + beta * kl with Adam and a one-cycle learning rate (Smith & Topin 2018, arXiv:1708.07120). The
    history holds one number per epoch: recon and kl (means over the training images while they were learned), val_recon
    and val_kl (after the epoch), in nats per image, and seconds. `on_epoch(epoch, model)` is called after each epoch.
    All draws come from torch's global generator: seed it for a repeatable run. Interrupting keeps what was learned.
    Raises ValueError for bad images, FloatingPointError when the loss is not finite. Derived in notebook 03.
    """
    _check_images("x", x)
    _check_images("x_val", x_val)
    device = next(model.parameters()).device
    x, x_val = x.to(device), x_val.to(device)
    steps = epochs * math.ceil(len(x) / batch_size)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99), fused=True)  # 0.99: forgets a spike sooner
    warm_up = 0.1 if steps > 10 else 0.3  # OneCycleLR divides by zero where the warm-up is one step
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=steps, pct_start=warm_up)
    history = {"recon": [], "kl": [], "val_recon": [], "val_kl": [], "seconds": []}
    with tqdm(total=steps, desc="training", unit="step", leave=False, disable=not progress) as bar:
        try:
            for epoch in range(1, epochs + 1):
                start = time.perf_counter()
                row = _train_epoch(model, x, batch_size, beta, optimizer, schedule, bar)
                row += [term.mean().item() for term in evaluate(model, x_val)]
                _check_finite(row, epoch, max_lr)
                for values, value in zip(history.values(), [*row, time.perf_counter() - start]):
                    values.append(value)
                bar.set_postfix(training=f"{row[0] + row[1]:.1f}", validation=f"{row[2] + row[3]:.1f}")
                if on_epoch:
                    on_epoch(epoch, model)
        except KeyboardInterrupt:
            bar.write(
                f"Stopped in epoch {epoch} of {epochs}: the model keeps what it learned, the history its full epochs."
            )
    model.eval()
    return history


@contextmanager
def _fast_products():
    """Let oneDNN, not MKL, multiply float32 matrices on the CPU while the block lasts.

    PyTorch hands them over where their factors may be rounded to bfloat16. On processors with AMX oneDNN then does so
    (emulated, it cost no quality: seeds 0 to 2). On others with AVX-512 it rounds nothing, and on AMD's, where MKL
    leaves AVX-512 unused, a product takes half the time. Elsewhere nothing changes.
    """
    matmul = torch.backends.mkldnn.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


@_fast_products()
def _train_epoch(model, x, batch_size, beta, optimizer, schedule, bar) -> list[float]:
    model.train()
    totals = x.new_zeros(2)  # recon and kl stay on the device until the epoch ends: the loop never waits for it
    for index in torch.randperm(len(x), device=x.device).split(batch_size):
        batch = x.index_select(0, index)
        logits, mu, logvar = model(batch)
        recon, kl = reconstruction_loss(batch, logits), kl_divergence(mu, logvar)
        optimizer.zero_grad()
        (recon + beta * kl).mean().backward()
        optimizer.step()
        schedule.step()
        totals += torch.stack([recon.detach().sum(), kl.detach().sum()])
        bar.update()
    return (totals / len(x)).tolist()


def _check_finite(row: list[float], epoch: int, max_lr: float) -> None:
    if not all(map(math.isfinite, row)):
        raise FloatingPointError(
            f"epoch {epoch}: the loss is no longer finite, and the weights are lost. Train a new model with a lower "
            f"max_lr (now {max_lr:g}); if that does not help, look for a mistake in what was changed in the model."
        )


@torch.no_grad()
def evaluate(model: VAE, x: Tensor, batch_size: int = 1000) -> tuple[Tensor, Tensor]:
    """Return recon (N,) and kl (N,) of the images x (N, 784) in nats, on the CPU, with one draw of z for each image.

    The caller averages; recon + kl is the negative ELBO. Raises ValueError for bad images. Used from notebook 03 on.
    """
    _check_images("x", x)
    model.eval()
    terms = []
    for batch in x.split(batch_size):
        batch = batch.to(next(model.parameters()).device)
        logits, mu, logvar = model(batch)
        terms.append(torch.stack([reconstruction_loss(batch, logits), kl_divergence(mu, logvar)]).cpu())
    return tuple(torch.cat(terms, dim=1))


# checkpoints

REFERENCE = ROOT / "checkpoints" / "vae.pt"
OWN = OUTPUT / "checkpoints" / "my_vae.pt"


def save_checkpoint(model: VAE, path: Path = OWN) -> None:
    """Write the weights and the config of `model` to `path`: the whole file or none of it, whenever the process dies.

    Raises OSError when the file cannot be written; an older file at `path` then stays as it was. Used in notebook 03.
    """
    content = io.BytesIO()  # torch.save itself says nothing clear of a full disk
    torch.save({"config": model.config, "weights": {k: v.cpu() for k, v in model.state_dict().items()}}, content)
    with _whole_file(path) as scratch:
        scratch.write_bytes(content.getvalue())


@contextmanager
def _whole_file(path: Path):
    """Give a place to write to; what was written there becomes `path` when the block ends without an error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="save-", dir=path.parent) as folder:
            yield Path(folder) / path.name
            os.replace(Path(folder) / path.name, path)
    except OSError as error:
        raise type(error)(
            f"{path} cannot be written, and what was there stays: {error}. Make the folder writable and room on the "
            "disk, or set the environment variable VAE_OUTPUT to another folder before helpers is imported."
        ) from error


def load_vae(path: Path | None = None, latent_dim: int = 2) -> VAE:
    """Return the trained VAE, on the CPU, and print which one it is: your own from notebook 03, else the reference.

    Only tensors and plain values are unpickled. Raises FileNotFoundError when there is no such file, ValueError when it
    is not a checkpoint of this series or its latent space has other than `latent_dim` dimensions. Used in notebook 03.
    """
    path = Path(path or (OWN if OWN.is_file() else REFERENCE))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint, found no such file; run notebook 03 to make one")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        model = VAE(**checkpoint["config"])
        model.load_state_dict(checkpoint["weights"])
    except Exception as error:  # torch.load raises nine kinds, by what is wrong with the file
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} is not a checkpoint of this series ({reason}). Delete it; run notebook 03 to make a new one."
        ) from error
    found = model.config["latent_dim"]
    if found != latent_dim:
        raise ValueError(
            f"{path}: expected latent_dim {latent_dim}, found {found}; run notebook 03 with latent_dim {latent_dim}"
        )
    print(f"Weights: {'the reference' if path == REFERENCE else 'your own'}, checkpoints/{path.name}")
    return model.eval()


# claims


def claim(name: str, value: float, expected: float, tol: float = 0, unit: str = "") -> None:
    """Print a number that the text relies on, as the text has it, while `value` is within `tol` of `expected`.

    Otherwise print the value and say so: a reader on another machine meets no exception, and the notebook test, which
    compares printed lines, fails. `tol` says how far an honest rerun may land.
    """
    value = value.item() if torch.is_tensor(value) else float(value)
    unit = f" {unit}" if unit else ""
    margin = f" (± {tol:,})" if tol else ""
    if abs(value - expected) <= tol:
        print(f"{name}: {expected:,}{unit}{margin}")
    else:
        print(f"{name}: {value:,.6g}{unit}, but the text was written for {expected:,}{unit}{margin}")


# latent space


@torch.no_grad()
def encode(model: VAE, x: Tensor, batch_size: int = 1000) -> tuple[Tensor, Tensor]:
    """Return mu (N, Z) and logvar (N, Z) of the images x (N, 784), on the CPU. Raises ValueError for bad images."""
    _check_images("x", x)
    model.eval()
    device = next(model.parameters()).device
    mu, logvar = zip(*(model.encode(batch.to(device)) for batch in x.split(batch_size)))
    return torch.cat(mu).cpu(), torch.cat(logvar).cpu()


@torch.no_grad()
def decode(model: VAE, z: Tensor) -> Tensor:
    """Return the images x_hat (N, 784) = sigmoid(logits) of the points z (N, Z), on the CPU; ValueError for a bad z."""
    latent_dim = model.config["latent_dim"]
    if z.dim() != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"z: expected shape (N, {latent_dim}), received {tuple(z.shape)}; one point is z[None]")
    model.eval()
    return torch.sigmoid(model.decode(z.float().to(next(model.parameters()).device))).cpu()


def aggregate_posterior(mu: Tensor, logvar: Tensor, axis: Tensor) -> Tensor:
    """Return q(z), the mean of the posteriors N(mu, exp(logvar)), both (N, 2), on the grid axis x axis.

    Row i of the result (G, G) has z2 = axis[i], column j has z1 = axis[j]: a density per unit of area of the plane.
    Hoffman & Johnson 2016. Raises ValueError for other than two dimensions. Derived in notebook 04.
    """
    _check_same_shape("mu", mu, "logvar", logvar)
    _check_plane("mu", mu)
    q = torch.zeros(len(axis), len(axis))
    for mean, sigma in zip(mu.split(5000), torch.exp(logvar / 2).split(5000)):
        posterior = torch.distributions.Normal(mean.T[..., None], sigma.T[..., None])
        along_z1, along_z2 = posterior.log_prob(axis).exp()
        q += along_z2.T @ along_z1 / len(mu)
    return q


def _check_plane(name: str, z: Tensor) -> None:
    if z.dim() != 2 or z.shape[1] != 2:
        raise ValueError(f"{name}: expected shape (N, 2), received {tuple(z.shape)}")


# exact inference


@torch.no_grad()
def log_joint(model: VAE, x: Tensor, z: Tensor) -> Tensor:
    """Return log p(x|z) + log p(z) (N, M), in nats, of each image x (N, 784) at each point z (M, 2), on the CPU.

    All pairs are one matrix product, x . logits(z) - sum softplus(logits(z)). Raises ValueError for bad images, or
    when the latent space of `model` is not a plane. Derived in notebook 06.
    """
    _check_images("x", x)
    _check_plane("z", z)
    if model.config["latent_dim"] != 2:
        raise ValueError(f"model: expected latent_dim 2 for a sum over a plane, found {model.config['latent_dim']}")
    logits = model.decode(z.to(next(model.parameters()).device)).cpu()
    log_prior = torch.distributions.Normal(0, 1).log_prob(z).sum(dim=1)
    return torch.addmm(log_prior - F.softplus(logits).sum(dim=1), x, logits.T)


def exact_log_likelihood(model: VAE, x: Tensor, size: int = 300, half_width: float = 5.0) -> Tensor:
    """Return log p(x) (N,) of the images x (N, 784), in nats: the integral over z as a sum over a grid.

    The grid has size x size points on [-half_width, half_width]^2. Warns when an image has more than 5 % of its
    posterior on the border of the grid; raises what `log_joint` raises. Derived in notebook 06.
    """
    z, log_cell, on_border = _plane(size, half_width)
    total = border = torch.tensor(-math.inf)
    for part, at_border in zip(z.split(2000), on_border.split(2000)):
        terms = log_joint(model, x, part)
        total = torch.logaddexp(total, terms.logsumexp(dim=1))
        border = torch.logaddexp(border, terms[:, at_border].logsumexp(dim=1))
    _warn_of_border((border - total).exp(), half_width)
    return total + log_cell


def exact_posterior(model: VAE, x: Tensor, size: int = 300, half_width: float = 5.0) -> Tensor:
    """Return the mass (N, size, size) of the true posterior p(z|x) in each cell of the grid of `exact_log_likelihood`.

    Rows run along z2 from -half_width, columns along z1. Warns and raises as `exact_log_likelihood`.
    """
    z, _, on_border = _plane(size, half_width)
    mass = torch.cat([log_joint(model, x, part) for part in z.split(2000)], dim=1).softmax(dim=1)
    _warn_of_border(mass[:, on_border].sum(dim=1), half_width)
    return mass.view(len(x), size, size)


def _plane(size: int, half_width: float) -> tuple[Tensor, float, Tensor]:
    if size < 2 or half_width <= 0:
        raise ValueError(f"expected size >= 2 and half_width > 0, received {size} and {half_width}")
    axis = torch.linspace(-half_width, half_width, size)
    z = torch.cartesian_prod(axis, axis).flip(1)
    return z, 2 * math.log(2 * half_width / (size - 1)), z.abs().amax(dim=1) > half_width * (1 - 1 / size)


def _warn_of_border(share: Tensor, half_width: float) -> None:
    outside = int((share > 0.05).sum())
    if outside:
        warnings.warn(
            f"{outside} of {len(share)} images have more than 5 % of their posterior on the border of the grid: "
            f"their sums miss mass. Enlarge half_width (now {half_width:g}), and size in proportion.",
            stacklevel=3,
        )


# figures


def use_style() -> None:
    """Set the look of all figures of the series."""
    plt.rcParams.update(
        {
            **{"figure.dpi": 100, "figure.constrained_layout.use": True, "font.size": 10, "axes.titlesize": 10},
            **{"axes.spines.top": False, "axes.spines.right": False, "axes.grid": False, "legend.frameon": False},
            "axes.prop_cycle": plt.cycler(color=COLORS),
        }
    )


def save_figure(figure: plt.Figure, name: str) -> None:
    """Write `figure` to images/`name`, as the README shows it; OSError when the file cannot be written."""
    with _whole_file(OUTPUT / "images" / name) as scratch:
        figure.savefig(scratch, dpi=150)


def show_images(
    images: Tensor, columns: int = 10, ax: plt.Axes | None = None, rows: tuple[str, ...] = (), vmax: float = 1
):
    """Draw images (N, 784) as one grid, dark ink on white, `rows` naming its rows, and return what `imshow` returns.

    Grey levels run from 0 to `vmax` in every image. Raises ValueError for another shape.
    """
    if images.dim() != 2 or images.shape[1] != 784:
        raise ValueError(f"images: expected shape (N, 784), received {tuple(images.shape)}")
    ax = ax or plt.gca()
    count = math.ceil(len(images) / columns)
    cells = F.pad(images.detach().float().cpu(), (0, 0, 0, count * columns - len(images))).view(count, columns, 28, 28)
    grid = F.pad(cells, (1, 1, 1, 1)).permute(0, 2, 1, 3).reshape(count * 30, columns * 30)
    ax.set_xticks([])
    ax.set_yticks([30 * i + 15 for i in range(len(rows))], rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax.imshow(grid.numpy(), cmap="gray_r", vmin=0, vmax=vmax, interpolation="nearest")


def show_latent(z: Tensor, y: Tensor | None = None, ax: plt.Axes | None = None, names: bool = True, size: float = 3):
    """Draw points z (N, 2) on the latent plane, z1 right, z2 up, the same limits everywhere; return the scatter.

    With labels y (N,) the points have the fixed class colours, and the name of each class stands on its median unless
    `names` is False. Raises ValueError for other than two dimensions.
    """
    _check_plane("z", z)
    ax, z = ax or plt.gca(), z.detach().cpu()
    colors = "0.35" if y is None else [COLORS[label] for label in y]
    points = ax.scatter(*z.T, s=size, c=colors, linewidths=0, alpha=0.7)
    if y is not None and names:
        labels = y.unique().tolist()
        _name_classes(ax, {CLASSES[label]: z[y == label].median(dim=0).values.tolist() for label in labels})
    limits = (-LATENT_LIMIT, LATENT_LIMIT)
    ax.set(xlim=limits, ylim=limits, aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    return points


def show_posteriors(mu: Tensor, logvar: Tensor, ax: plt.Axes | None = None, scale: float = 2, color="black"):
    """Draw each posterior N(mu, exp(logvar)), both (N, 2), as an ellipse of `scale` standard deviations; return them.

    At scale 2 an ellipse holds 1 - exp(-2) = 86.5 % of its draws. Raises ValueError for other than two dimensions.
    Used in notebooks 04 and 06.
    """
    _check_same_shape("mu", mu, "logvar", logvar)
    _check_plane("mu", mu)
    ax, mu = ax or plt.gca(), mu.detach().cpu().numpy()
    width, height = (2 * scale * torch.exp(logvar.detach().cpu() / 2)).T.numpy()
    style = {"facecolors": "none", "edgecolors": color, "linewidths": 0.8}
    ellipses = EllipseCollection(width, height, 0 * width, units="xy", offsets=mu, transOffset=ax.transData, **style)
    return ax.add_collection(ellipses)


def _name_classes(ax: plt.Axes, places: dict[str, list[float]]) -> None:
    halo = matplotlib.patheffects.withStroke(linewidth=3, foreground="white")
    taken = []
    for name, (x, y) in sorted(places.items(), key=lambda item: item[1][1]):
        for x_below, y_below in taken:  # from the lowest up: a name that would cover another one moves above it
            if abs(x - x_below) < 1.7 and y < y_below + 0.3:
                y = y_below + 0.3
        taken.append((x, y))
        ax.text(x, y, name, ha="center", va="center", weight="bold", path_effects=[halo])


def show_scale(costs: dict[str, float], ax: plt.Axes | None = None):
    """Draw each cost, in nats per image, as a bar with its name and value, the dearest on top, and return the bars."""
    ax = ax or plt.gca()
    names = sorted(costs, key=costs.get)
    bars = ax.barh(names, [costs[name] for name in names])
    ax.bar_label(bars, fmt="%.1f", padding=3)
    ax.set(xlabel="cost (nats per image)", xlim=(0, 1.12 * max(costs.values())))
    return bars


# explorer

SHOWN = 5000  # codes on the explorer's map; more would only cover each other
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>The latent explorer</title>
<main>
<h1>The latent explorer</h1>
<div id="explorer"><noscript>The explorer needs JavaScript.</noscript></div>
<p>Every dot is a garment of Fashion-MNIST, which a variational autoencoder describes by two numbers, z₁ and z₂. Drag
through the plane: the network decodes the point under the cursor, here in your browser. New garments are drawn from the
prior, whose first three standard deviations are the circles.</p>
</main>
<script type="module">
%s
explorer.mount(document.getElementById("explorer"), %s);
</script>
</html>
"""


class LatentExplorer(anywidget.AnyWidget if anywidget else ipywidgets.HBox):
    """A point z = (z1, z2) of the latent plane and its garment, moved by the reader and by `explorer.z = (1.0, -1.0)`.

    `latent_explorer` makes it. Raises traitlets.TraitError for a z outside the plane. Used in notebooks 04 and 05.
    """

    _esm = (ROOT / "explorer.js").read_text(encoding="utf-8")
    _ipython_display_ = None  # ipywidgets 7 would prefer it to _repr_mimebundle_
    still = b""  # a PNG for viewers that run no JavaScript
    z = traitlets.Tuple(traitlets.Float(), traitlets.Float(), default_value=(0.0, 0.0)).tag(sync=True)
    limit = traitlets.Float(LATENT_LIMIT).tag(sync=bool(anywidget))
    classes = traitlets.List(list(CLASSES)).tag(sync=bool(anywidget))
    colors = traitlets.List(list(COLORS)).tag(sync=bool(anywidget))
    sizes = traitlets.List().tag(sync=bool(anywidget))  # of the decoder's layers: 2, ..., 784
    weights = traitlets.Unicode().tag(sync=bool(anywidget))  # float16 in base64, as Colab drops binary buffers
    codes = traitlets.Unicode().tag(sync=bool(anywidget))  # the same
    labels = traitlets.Unicode().tag(sync=bool(anywidget))  # bytes in base64

    @traitlets.validate("z")
    def _check_z(self, proposal):
        if all(abs(value) <= LATENT_LIMIT for value in proposal.value):
            return proposal.value
        limits = f"[{-LATENT_LIMIT:g}, {LATENT_LIMIT:g}]"
        raise traitlets.TraitError(f"z: expected two numbers in {limits}, received {proposal.value}")

    def __repr__(self) -> str:
        return f"LatentExplorer(z={self.z})"

    def _repr_mimebundle_(self, **_) -> dict:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        still = base64.b64encode(self.still).decode()
        return {"application/vnd.jupyter.widget-view+json": view, "image/png": still, "text/plain": repr(self)}

    def save(self, path: Path | str) -> None:
        """Write the explorer to `path` as one page that needs no Python and no network: the whole file or none of it.

        Raises OSError when the file cannot be written; an older file at `path` then stays as it was.
        """
        path = Path(path)
        names = ("z", "limit", "classes", "colors", "sizes", "weights", "codes", "labels")
        state = json.dumps({name: getattr(self, name) for name in names}).replace("<", "\\u003c")
        page = PAGE % (self._esm.replace("export default", "const explorer ="), state)
        with _whole_file(path) as scratch:
            scratch.write_text(page, encoding="utf-8")


def latent_explorer(model: VAE, codes: Tensor, labels: Tensor) -> LatentExplorer:
    """Return the explorer of the plane of `model`: codes (N, 2), posterior means, coloured by labels (N,), int64.

    The decoder runs in the browser, from float16 weights; an even choice of 5,000 codes is drawn. Without anywidget
    there are two sliders and the garment. Raises ValueError for a model, codes or labels that the page cannot show, and
    when its garments would be more than one grey level off those of the model. Used in notebooks 04 and 05.
    """
    _check_codes(codes, labels)
    kept = torch.linspace(0, len(codes) - 1, min(len(codes), SHOWN), dtype=torch.float64).long()
    codes, labels = codes.detach().cpu()[kept], labels.cpu()[kept]
    decoder = _page_decoder(model)
    _check_garments(model, decoder, codes[:1000].clamp(-LATENT_LIMIT, LATENT_LIMIT))
    explorer = LatentExplorer(
        sizes=[2, *(layer.out_features for layer in decoder[::2])],
        weights=_base64(torch.cat([weight.flatten() for weight in decoder.parameters()]).half()),
        codes=_base64(codes.half()),
        labels=_base64(labels.to(torch.uint8)),
    )
    explorer.still = _draw_still(model, codes, labels)
    if not anywidget:
        _add_sliders(explorer, model)
    return explorer


def _check_codes(codes: Tensor, labels: Tensor) -> None:
    if codes.dim() != 2 or codes.shape[1] != 2 or len(codes) == 0:
        raise ValueError(f"codes: expected shape (N, 2), received {tuple(codes.shape)}; helpers.encode makes them")
    if not codes.half().isfinite().all():
        raise ValueError("codes: expected finite numbers, received NaN, infinity or more than 65,504; train again")
    if labels.shape != codes.shape[:1] or labels.is_floating_point():
        received = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"labels: expected one int64 for each of {len(codes)} codes, received {received}")
    low, high = labels.min().item(), labels.max().item()
    if not 0 <= low <= high < len(CLASSES):
        raise ValueError(f"labels: expected classes 0 to {len(CLASSES) - 1}, received {low} to {high}")


def _page_decoder(model: VAE) -> nn.Sequential:
    """Return a copy of the decoder as the page has it, its weights rounded to float16; ValueError when it cannot."""
    layers = list(model.decoder) if isinstance(model.decoder, nn.Sequential) else [model.decoder]
    linear = [layer for layer in layers[::2] if type(layer) is nn.Linear and layer.bias is not None]
    known = len(layers) == 2 * len(linear) - 1 and all(type(layer) is nn.SiLU for layer in layers[1::2])
    if not (known and linear[0].in_features == 2 and linear[-1].out_features == 784):
        received = ", ".join(str(layer).partition("\n")[0] for layer in layers)
        raise ValueError(
            "model: expected a decoder of Linear layers with SiLU between them, from 2 numbers to 784 logits, "
            f"received {received}; helpers.VAE(latent_dim=2) has one"
        )
    decoder = copy.deepcopy(model.decoder).cpu().half().float()
    if not all(weight.isfinite().all() for weight in decoder.parameters()):
        raise ValueError("model: expected finite weights, received NaN, infinity or more than 65,504; train it again")
    return decoder


@torch.no_grad()
def _check_garments(model: VAE, decoder: nn.Sequential, z: Tensor) -> None:
    levels = 255 * (torch.sigmoid(decoder(z.float())) - decode(model, z)).abs().max().item()
    if not levels <= 1:
        raise ValueError(
            "model: expected its images to be sigmoid(decoder(z)), in float16 to one grey level, received images "
            f"{levels:.1f} grey levels off; the page knows no other way from z to an image"
        )


def _base64(values: Tensor) -> str:
    return base64.b64encode(values.detach().numpy().tobytes()).decode()


def _draw_still(model: VAE, codes: Tensor, labels: Tensor) -> bytes:
    figure = plt.Figure(figsize=(8, 4), layout="constrained")  # not pyplot's, which the notebook would show as well
    left, right = figure.subplots(1, 2)
    show_latent(codes, labels, left)
    ticks = torch.linspace(-3, 3, 9)
    show_images(decode(model, torch.cartesian_prod(ticks.flip(0), ticks).flip(1)), 9, right)
    right.set_title("decoded: −3 to 3 in both directions")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100)
    return png.getvalue()


def _add_sliders(explorer: LatentExplorer, model: VAE) -> None:
    limits = {"min": -LATENT_LIMIT, "max": LATENT_LIMIT, "step": 0.01}
    sliders = [ipywidgets.FloatSlider(description=name, **limits) for name in ("z₁", "z₂")]
    garment = ipywidgets.Image(format="png", width=280, height=280)

    def show(_):
        for slider, value in zip(sliders, explorer.z):
            slider.value = value
        grey = (255 * (1 - decode(model, torch.tensor([explorer.z])))).round().byte().view(28, 28, 1).expand(-1, -1, 3)
        png = io.BytesIO()
        plt.imsave(png, grey.repeat_interleave(10, 0).repeat_interleave(10, 1).numpy())
        garment.value = png.getvalue()

    def move(_):
        explorer.z = tuple(slider.value for slider in sliders)

    for slider in sliders:
        slider.observe(move, "value")
    explorer.observe(show, "z")
    explorer.children = [ipywidgets.VBox(sliders), garment]
    show(None)
