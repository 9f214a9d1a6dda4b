"""The checkers of the exercises: each accepts the printed solution and names the mistakes that it knows.

A notebook's own cells, on fewer images, prepare what its exercises need; its folded solutions and its answer cells are
then executed as they are printed.
"""

import ast
import dis
import importlib
import math
import re
import sys
from pathlib import Path
from types import CodeType
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.nn import functional as F

import exercises
import helpers
from exercises import check
from tools import notebooks as tool

ROOT = Path(__file__).resolve().parents[1]
REAL = {path.name[:2]: tool.read(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
SOLUTION = re.compile(r"<details><summary>Solution (\d+\.\d)</summary>(.*?)</details>", re.DOTALL)
STUBS = {  # number: the source of the answer cell
    re.search(r'check\("(\d+\.\d)"', cell.source)[1]: cell.source
    for notebook in REAL.values()
    for cell in tool.code_cells(notebook)
    if 'check("' in cell.source
}
SOLUTIONS = {
    number: "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    for notebook in REAL.values()
    for cell in notebook.cells
    for number, text in SOLUTION.findall(cell.source)
}
SHORT = {  # notebook and cell: what is executed in its place and takes less time; in 07 it trains no other model
    ("06", "exact"): "log_p = exact.log_likelihood(vae, x, refine=1)",
    ("07", "train-run"): "vae = helpers.load_vae().requires_grad_(False)",
    ("07", "shipped"): next(c.source for c in REAL["07"].cells if c.id == "shipped").partition("log_p_alone = ")[0],
    ("07", "jitter"): next(c.source for c in REAL["07"].cells if c.id == "jitter").partition("some, tuned = ")[0],
}
IMAGES = {"train": 5000, "validation": 1000, "test": 500}
OTHER_IMAGES = {
    "03": {"train": 1000},
    "04": {"train": 20_000, "test": 2000},
    "05": {"test": 10_000},
    "07": {"test": 250},
}


def notebook_of(number):
    return f"{int(number.partition('.')[0]):02d}"


def execute(source, names):
    exec(compile(source, "cell", "exec"), names)
    plt.close("all")


def names_in(source):
    """Return the names that a cell takes from those before it, and those that it defines."""
    taken, defined = set(), set()

    def read(code, of_the_cell):
        for step in dis.get_instructions(code):
            if step.opname == "STORE_NAME" and of_the_cell:
                defined.add(step.argval)
            elif step.opname in ("LOAD_NAME", "LOAD_GLOBAL") and step.argval not in defined:
                taken.add(step.argval)
            elif isinstance(step.argval, CodeType):
                read(step.argval, False)

    read(compile(source, "cell", "exec"), True)
    return taken, defined


def needed(number):
    """Return the sources of the cells of notebook `number` on which its exercises rely."""
    cells = [cell for cell in tool.code_cells(REAL[number]) if cell.source not in STUBS.values()]
    own = [n for n in STUBS if notebook_of(n) == number]
    wanted = set.union(*(names_in(f"{STUBS[n]}\n{SOLUTIONS[n]}")[0] for n in own))
    found = []
    for cell in reversed(cells):
        source = SHORT.get((number, cell.id), cell.source)
        taken, defined = names_in(source)
        if wanted & defined and cell.id != "setup":
            wanted = wanted - defined | taken
            found = [source, *found]
    return found


def prepare(number):
    """Return the names that notebook `number` has defined when its exercises begin."""
    names = {}
    for source in needed(number):
        torch.manual_seed(0)
        execute(source, names)
    return names


@pytest.fixture(scope="module")
def notebook():
    """A function that returns what `prepare` returns, with fewer images, and prepares each notebook once."""
    original, counts, prepared = helpers.load_fashion_mnist, {}, {}

    def load(split):
        return tuple(part[: counts[split]].clone() for part in original(split))

    def get(number):
        counts.update(IMAGES | OTHER_IMAGES.get(number, {}))
        if number not in prepared:
            prepared[number] = prepare(number)
        return dict(prepared[number])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(helpers, "load_fashion_mnist", load)
        yield get


@pytest.fixture(scope="module")
def solved(notebook):
    """A function that returns the names of a notebook after the printed solution of the exercise `number`."""
    known = {}

    def get(number):
        if number not in known:
            names = notebook(notebook_of(number)) | {"math": math, "np": np, "torch": torch, "F": F}
            torch.manual_seed(0)
            execute(SOLUTIONS[number], names)
            known[number] = names
        return dict(known[number])

    return get


def checked(number, names, capsys):
    """Return what the answer cell of the exercise `number` prints where `names` holds the answer."""
    cell = ast.parse(STUBS[number])
    cell.body = [node for node in cell.body if isinstance(node, ast.Expr)]  # without the lines that hold `...`
    capsys.readouterr()
    execute(ast.unparse(cell), names)
    return capsys.readouterr().out


def test_every_exercise_has_a_checker_an_answer_cell_and_a_solution():
    counts = [sum(notebook_of(number) == name for number in STUBS) for name in REAL]

    assert list(STUBS) == [f"{int(name)}.{n}" for name, count in zip(REAL, counts) for n in range(1, count + 1)]
    assert all(2 <= count <= 4 for count in counts)
    assert list(SOLUTIONS) == list(STUBS)
    assert all(exercises.find(number) for number in STUBS) and exercises.TASKS.keys() == STUBS.keys()


@pytest.mark.parametrize("number", STUBS)
def test_a_checker_stands_in_the_module_of_its_notebook(number):
    _, checker = exercises.find(number)

    assert checker.__module__ == f"exercises.{exercises.MODULES[number.partition('.')[0]]}"


def test_every_module_belongs_to_one_notebook():
    modules = [path.stem for path in (ROOT / "exercises").glob("*.py") if path.stem != "__init__"]

    assert sorted(modules) == sorted(exercises.MODULES.values())
    assert list(exercises.MODULES) == [str(int(name)) for name in REAL]


def test_a_notebook_loads_no_checkers_but_its_own():
    with mock.patch.dict(sys.modules):
        for name in [name for name in sys.modules if name.partition(".")[0] == "exercises"]:
            del sys.modules[name]  # as the setup cell does

        importlib.import_module("exercises").check("2.3", ...)

        assert {name for name in sys.modules if name.startswith("exercises.")} == {"exercises.model"}


@pytest.mark.parametrize("number", STUBS)
def test_an_unsolved_cell_says_what_is_missing(number, capsys):
    names = dict.fromkeys(compile(STUBS[number], "cell", "exec").co_names, torch.zeros(20, 2))

    execute(STUBS[number], names | {"check": check})

    assert capsys.readouterr().out == f"{number}: not answered yet. Expected: {exercises.find(number)[0]}.\n"


@pytest.mark.parametrize("number", STUBS)
def test_the_printed_solution_is_right(number, solved, capsys):
    assert checked(number, solved(number), capsys).startswith(f"{number}: right. ")


OF_SHOES = "scale = whitened(shoes, 1e-3)[1]; prices_of_shoes = torch.linalg.eigvalsh({}).flip(0)[:2]"
ROLLED = SOLUTIONS["4.3"].replace("F.pad(pictures[room], (pixels, 0))[:, :, :28]", "pictures.roll(pixels, 2)")
IN_Q = "q.flatten()[helpers.cell_of(z_prior, axis)]"
OWN_SIGMA = "- mu[room]).div((logvar[room] / 2).exp())"
SOFT = "torch.distributions.Normal(mu, torch.exp(logvar / 2))"
ALSO_RIGHT = [  # number, another answer that is as good
    ("1.1", "bits = round(bits.item(), 3)"),
    ("1.1", "bits = np.float32(bits)"),
    ("1.1", "bits = [bits.double()]"),
    ("1.1", "bits = bits.clone().requires_grad_()"),
    ("1.3", "shares = np.array(shares[::-1])[::-1]"),
    ("2.1", f"draw = lambda mu, logvar: {SOFT}.rsample()"),
    ("2.1", "draw = lambda mu, logvar: mu - logvar.exp().sqrt() * torch.randn(mu.shape)"),
    ("3.2", "moved = round(final(other_history), 1) - round(final(history), 1)"),
    ("2.2", "torch.manual_seed(1); ratio = spread(1) / spread(100)"),
    ("2.2", "ratio = 8"),
    ("2.3", "my_kl = lambda mu, logvar: helpers.kl_divergence(mu - torch.tensor([1.0, 0.0]), logvar).double().numpy()"),
    ("3.2", "moved = final(history) - final(other_history)"),
    ("3.3", "share = round(share, 2)"),
    ("3.4", "price = 1.001 * price"),
    ("4.1", "within = lambda s: (torch.randn(200_000, 2).norm(dim=1) < s).double().mean()"),
    ("4.1", "within = lambda s: 1 - math.exp(-s * s / 2)"),
    ("4.1", "within = lambda s: (torch.randn(10_000, 2).norm(dim=1) < s).double().mean()"),
    ("4.1", "within = lambda s: [1 - math.exp(-one * one / 2) for one in s]"),
    ("4.2", "named = named.tolist()"),
    ("4.3", "ways = [round(way.item(), 3) for way in ways]"),
    ("4.4", "torch.manual_seed(1); z_prior = torch.randn(10_000, 2)\n" + SOLUTIONS["4.4"].partition("\n")[2]),
    ("5.1", "entropies = np.array([entropy.item() for entropy in entropies])"),
    ("5.2", "z_dresses = GaussianMixture(5, random_state=1).fit(mu[y == 3].numpy()).sample(1000)[0]"),
    ("7.1", "in_order = middles; middles = lambda side: in_order(side)[torch.randperm(side**2)]"),
    ("7.4", "cheaper_mean, cheaper_median = cheaper_mean + 0.1, cheaper_median - 0.05"),
    ("8.1", "prices_of_shoes = prices_of_shoes.flip(0)"),
    ("8.3", "beta_of_repository = 0.78"),
    ("8.4", SOLUTIONS["8.4"].replace("each.clamp(min=1.0)", "(each - 1).clamp(min=0)")),
    ("9.3", "heard = hears; hears = lambda vae: torch.tensor(heard(vae))"),
    ("9.3", "heard = hears; hears = lambda vae: torch.tensor(heard(vae)).numpy().any()"),
    ("10.2", "ten_classes, two_classes = 248.30, 246.33"),
    ("10.3", "deviations = -deviations"),
    ("10.3", "deviations = [2.08]"),
    ("5.3", "turn = turn - 2 * torch.pi * turn.sign(); angle = angles[0] + mix * turn\n"
            "z_arc = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)"),
    ("6.1", "bound_of = lambda log_w: log_w.double().exp().mean(dim=1).log()"),
    ("6.2", "mean, log_variance = mean.detach().numpy(), log_variance.detach().double()"),
    ("6.3", "wide_w = wide_w[:, torch.randperm(1000)].double()"),
    ("6.4", "correlations = np.corrcoef([sigma, radius, error])[2, :2]"),
    ("6.4", "axis = torch.linspace(-5, 5, 60)  # to the rim, as in the first sum of the notebook\n"
            "joint = exact.log_joint(vae, x, helpers.plane_grid(axis))\n"
            "error = (joint.logsumexp(dim=1) + 2 * (axis[1] - axis[0]).log() - log_p).abs()\n"
            "correlations = [torch.corrcoef(torch.stack([value, error]))[0, 1] for value in (sigma, radius)]"),
]  # fmt: skip


@pytest.mark.parametrize("number, answer", ALSO_RIGHT)
def test_another_right_answer_is_right(number, answer, solved, capsys):
    names = solved(number)

    execute(answer, names)

    assert checked(number, names, capsys).startswith(f"{number}: right. ")


SHORTER = "x, log_p = x[:100], log_p[:100]\n" + SOLUTIONS["6.3"].replace("200", "100")
STEP = """
def step(model, optimizer, batch):
    logits, mu, logvar = model(batch)
    recon, kl = helpers.reconstruction_loss(batch, logits), helpers.kl_divergence(mu, logvar)
    optimizer.zero_grad()
    (recon + kl).mean().backward()
    optimizer.step()
"""
LOSS = "(recon + kl).mean()"
KL = "my_kl = lambda mu, logvar: "
FAR = "other_history = other_history | {'val_recon': [400.0] * 10, 'val_kl': [20.0] * 10}; "
COSTLY = "quick_history = quick_history | {'val_kl': [5.0] * 2}; "
SAVED = "history, frugal_history = (some | {'val_kl': [kl]} for some, kl in ((history, 7.0), (frugal_history, 4.0))); "
SHIFTED = "(mu - torch.tensor([1.0, 0.0]))"
DRAW = "draw = lambda mu, logvar: "
MISTAKES = [  # number, a wrong answer, words that name the mistake
    ("1.1", "bits = bits * math.log(2)", "nats per pixel; divide by ln 2"),
    ("1.1", "bits = bits * 784", "bits per image"),
    ("1.1", "bits = bits * 784 * math.log(2)", "nats per image"),
    ("1.1", "bits = bits * math.log(2) ** 2", "divide by ln 2 where you multiplied"),
    ("1.1", "bits = 1.0", "½ for every pixel"),
    ("1.1", "bits = -bits", "the sign is the other way round"),
    ("1.1", "bits = bits.expand(8)", "expected one number, received shape (8,)"),
    ("1.1", "bits = bits * math.nan", "not all of it is finite"),
    ("1.1", "bits = bits / 2", "a factor ½ too many"),
    ("1.1", "bits = 0.4", "received 0.4. Expected: one number"),
    ("1.2", "cost_10, cost_50 = cost_10 / 784, cost_50 / 784", "mean over the pixels"),
    ("1.2", "cost_10, cost_50 = cost_50, cost_10", "swapped"),
    ("1.2", "cost_10, cost_50 = cost_10 * len(x_val), cost_50 * len(x_val)", "sum over all images"),
    ("1.2", SOLUTIONS["1.2"].replace(".clamp(0.01, 0.99)", ""), "clamp them to [0.01, 0.99]"),
    ("1.3", "shares = [1 - share for share in shares]", "share of mistakes"),
    ("1.3", "shares = [100 * share for share in shares]", "per cent instead of a share"),
    ("1.3", "shares = [len(x_val) * share for share in shares]", "divide by how many there are"),
    ("1.3", "shares = shares[::-1]", "the order is k = 1, 20, 100"),
    ("1.3", SOLUTIONS["1.3"].replace("_val", ""), "were the images judged those whose labels were given"),
    ("2.1", DRAW + "mu + logvar.exp() * torch.randn_like(mu)", "sigma², not sigma"),
    ("2.1", DRAW + "mu + logvar * torch.randn_like(mu)", "logvar itself"),
    ("2.1", DRAW + "mu + torch.exp(logvar / 2) * torch.rand_like(mu)", "eps is uniform"),
    ("2.1", DRAW + "mu + torch.exp(logvar / 2) * (torch.randn_like(mu) + 1)", "their mean is not mu"),
    ("2.1", DRAW + "mu + torch.exp(logvar / 2) * torch.randn(2)", "share one eps"),
    ("2.1", DRAW + "mu[0] + torch.exp(logvar[0] / 2) * torch.randn_like(mu)", "around one mean"),
    ("2.1", DRAW + "mu + torch.exp(logvar / 2) * torch.randn(len(mu), 1)", "share one eps"),
    ("2.1", DRAW + "mu + 0 * logvar", "no chance in it"),
    ("2.1", DRAW + f"{SOFT}.sample()", "no gradient reaches mu"),
    ("2.1", DRAW + "mu + torch.exp(logvar.detach() / 2) * torch.randn_like(mu)", "no gradient reaches logvar"),
    ("2.1", DRAW + f"{SOFT}.sample() + 0 * mu + 0 * logvar", "no gradient reaches mu"),
    ("2.1", DRAW + "mu + torch.exp(logvar / 2) * torch.randn_like(mu).sign()", "they are not normal"),
    ("2.1", DRAW + "mu + torch.exp(logvar / 2) * torch.tensor([1.0, 1.2]) * torch.randn_like(mu)", "over sigma is"),
    ("2.1", DRAW + "(mu + torch.randn_like(mu))[0]", "expected shape (20000, 2), received shape (2,)"),
    ("2.1", "draw = lambda: 1", "your function raised TypeError"),
    ("2.1", "draw = 1.0", "received a float. Expected: a function of mu and logvar"),
    ("2.2", "ratio = ratio ** 2", "the ratio of the variances"),
    ("2.2", "ratio = spread(1) / spread(10)", "1 draw over 10"),
    ("2.2", "ratio = 1 / ratio", "the spread with 100 draws over the spread with 1"),
    ("2.2", "ratio = 1.05", "the spread did not fall"),
    ("2.3", KL + f"({SHIFTED} ** 2 + logvar.exp() - 1 - logvar).sum(1)", "a factor ½ is missing"),
    ("2.3", KL + f"-0.5 * ({SHIFTED} ** 2 + logvar.exp() - 1 - logvar).sum(1)", "the sign is the other way round"),
    ("2.3", KL + f"0.5 * ({SHIFTED} ** 2 + logvar.exp() - 1 - logvar).mean(1)", "averaged; sum over them"),
    ("2.3", KL + f"0.5 * ({SHIFTED} ** 2 + logvar.exp() - 1 - logvar)", "one price for each dimension"),
    ("2.3", KL + f"0.5 * ({SHIFTED} ** 2 + logvar.exp() - 1 - logvar).sum()", "one number for all images"),
    ("2.3", KL + f"0.5 * ({SHIFTED} ** 2 + logvar.exp() - 1 - logvar).sum(1).mean()", "shape (8,), received shape ()"),
    ("2.3", KL + f"0.5 * ({SHIFTED} ** 2 + (logvar / 2).exp() - 1 - logvar).sum(1)", "sigma where sigma² belongs"),
    ("2.3", KL + f"0.5 * ({SHIFTED} ** 2 + logvar.exp() - 1 - logvar / 2).sum(1)", "log sigma where log sigma²"),
    ("2.3", KL + f"0.5 * ({SHIFTED} ** 2 + logvar.exp() - 1 + logvar).sum(1)", "the logarithm has the wrong sign"),
    ("2.3", KL + f"1.1 * helpers.kl_divergence({SHIFTED}, logvar)", "(shape (8,)). Expected: a function"),
    ("2.3", KL + "helpers.kl_divergence(mu, logvar)", "a prior at the origin"),
    ("2.3", KL + "helpers.kl_divergence(mu + torch.tensor([1.0, 0.0]), logvar)", "a sign"),
    ("2.3", KL + "helpers.kl_divergence(mu - 1, logvar)", "yours is at (1, 1)"),
    ("2.3", KL + f"helpers.kl_divergence({SHIFTED} / torch.exp(logvar / 2), -logvar)", "the other way round"),
    ("3.1", STEP.replace("optimizer.zero_grad()", "pass"), "an earlier step's gradient is still in it"),
    ("3.1", STEP.replace("zero_grad()", "step(); return"), "only an earlier step's gradient was used"),
    ("3.1", STEP.replace("    optimizer.step()\n", ""), "the weights of `model` have not moved"),
    ("3.1", STEP.replace("optimizer.step()", "optimizer.zero_grad(); optimizer.step()"), "have not moved"),
    ("3.1", STEP.replace("optimizer.zero_grad()", "pass") + "    optimizer.zero_grad()\n", "zero_grad comes last"),
    ("3.1", STEP.replace("logits, mu, logvar = model(batch)", "mu, logvar = model.encode(batch); "
                         "logits = model.decode(mu)"), "there is no chance in it"),
    ("3.1", STEP.replace("logits, mu, logvar = model(batch)", "mu, logvar = model.encode(batch); "
            f"logits = model.decode({SOFT}.sample())"), "no gradient comes back"),
    ("3.1", STEP.replace("optimizer.step()", "optimizer.step(); optimizer.step()"), "moved twice"),
    ("3.1", STEP.replace(LOSS, "(-recon - kl).mean()"), "uphill"),
    ("3.1", STEP.replace(LOSS, "(recon + kl).sum()"), "the images are summed"),
    ("3.1", STEP.replace(LOSS, "recon.mean()"), "the kl is missing"),
    ("3.1", STEP.replace(LOSS, "kl.mean()"), "the recon is missing"),
    ("3.1", STEP.replace(LOSS, "(recon / 784 + kl).mean()"), "kl counts 784 times"),
    ("3.1", STEP.replace(LOSS, "(recon / 784 + kl / 2).mean()"), "averaged over pixels and dimensions"),
    ("3.1", STEP.replace(LOSS, "(recon * 3 + kl).mean()"), "moved by the gradient"),
    ("3.1", STEP.replace("model(batch)", "vea(batch)"), "your function raised NameError"),
    ("3.2", FAR + "moved = abs(other_history['val_recon'][-1] - history['val_recon'][-1])", "val_recon alone"),
    ("3.2", FAR + "moved = abs(other_history['val_kl'][-1] - history['val_kl'][-1])", "val_kl alone"),
    ("3.2", FAR + "moved = sum(other_history[k][-1] - history[k][-1] for k in ('recon', 'kl'))", "training columns"),
    ("3.2", "other_history = history", "one and the same run"),
    ("3.2", "other_history = {key: row[:2] for key, row in other_history.items()}", "received one of 2"),
    ("3.2", "other_history = other", "expected a history"),
    ("3.3", "share = 100 * share", "per cent instead of a share"),
    ("3.3", "share = 1 - share", "what is left to the floor"),
    ("3.3", COSTLY + "share = (301.88 - quick_history['val_recon'][-1]) / (301.88 - 189.86)", "val_recon alone"),
    ("3.3", "share = (301.88 - quick_history['recon'][-1] - quick_history['kl'][-1]) / 112.02", "training cost"),
    ("3.3", "share = (543.43 - cost) / (543.43 - 189.86)", "start at PCA"),
    ("3.3", "share = (301.88 - cost) / 301.88", "divide by the room above the floor"),
    ("3.3", "quick_history = history", "that history has 10 epochs, expected 2"),
    ("3.4", "price = 1 / price", "the other way round"),
    ("3.4", "price = -price", "the sign is the other way round"),
    ("3.4", SAVED + "price = paid", "that is what was paid"),
    ("3.4", "price = price / 4", "not beta times"),
    ("3.4", SOLUTIONS["3.4"].partition("beta=4)")[2].replace("val_", ""), "training columns"),
    ("3.4", "frugal_history = history", "val_kl has not fallen"),
    ("4.1", "within = lambda s: torch.erf(s / math.sqrt(2))", "of one coordinate"),
    ("4.1", "within = lambda s: torch.erf(s / math.sqrt(2)) ** 2", "the mass of a square"),
    ("4.1", "within = lambda s: torch.exp(-s**2 / 2)", "what lies outside"),
    ("4.1", "within = lambda s: 1 - torch.exp(-(s**2))", "a factor ½ is missing"),
    ("4.1", "within = lambda s: 1 - torch.exp(-s / 2)", "s is not squared"),
    ("4.1", "within = lambda s: torch.exp(-s**2 / 2) / (2 * math.pi)", "the density, not the mass"),
    ("4.1", "within = lambda s: 100 - 100 * torch.exp(-s**2 / 2)", "per cent instead of a share"),
    ("4.2", "named = torch.from_numpy(clusters.predict(mu.numpy()))", "numbers of clusters"),
    ("4.2", "named = found", "expected shape (2000,), received shape (20000,)"),
    ("4.2", "named = y_test", "more than ten clusters can do"),
    ("4.2", "named = torch.randint(10, y_test.shape)", "% of these names are right"),
    ("4.3", SOLUTIONS["4.3"].replace("median", "mean"), "those are the means"),
    ("4.3", SOLUTIONS["4.3"].replace("- mu[room])", OWN_SIGMA), "units of each image's sigma"),
    ("4.3", "ways = [way**2 for way in ways]", "squared distances"),
    ("4.3", SOLUTIONS["4.3"].replace("(pixels, 0))[:, :, :28]", "(0, 0, pixels, 0))[:, :28]"), "moved down"),
    ("4.3", SOLUTIONS["4.3"].replace("room]", ":]"), "whose right edge is cut off"),
    ("4.3", ROLLED.replace("mu[room]", "mu"), "roll brings"),
    ("4.4", "z_rare = helpers.plane_grid(axis)[(q / p).flatten().argsort()[:200]]", "no draws from the prior"),
    ("4.4", "z_rare = z_rare.flip(1)", "z1 and z2 are swapped"),
    ("4.4", f"z_rare = z_prior[{IN_Q}.argsort()[:200]]", "smallest q(z), at the rim"),
    ("4.4", "z_rare = z_prior[rarity.argsort()[-200:]]", "the largest q(z) / p(z)"),
    ("4.4", "z_rare = z_prior[:200]", "% lie in the emptiest places. Expected: the 200"),
    ("4.4", "z_rare = z_rare[:20]", "expected shape (200, 2), received shape (20, 2)"),
    ("5.1", "entropies = [entropy / math.log(2) for entropy in entropies]", "in bits"),
    ("5.1", "entropies = [entropy.exp() for entropy in entropies]", "effective numbers of classes"),
    ("5.1", SOLUTIONS["5.1"].replace("z = scale *", "z = scale**0.5 *"), "scaled the variance"),
    ("5.1", "entropies = entropies[::-1]", "the order is 0.5, 1, 1.5"),
    ("5.1", "entropies = [-entropy for entropy in entropies]", "the sign is the other way round"),
    ("5.2", SOLUTIONS["5.2"].replace("Mixture(5", "Mixture(1"), "one Gaussian is not enough"),
    ("5.2", SOLUTIONS["5.2"].replace("mu[y == 3]", "mu"), "mu[y == 3] alone"),
    ("5.2", SOLUTIONS["5.2"].replace("mu[y == 3]", "mu[y == 7]"), "mu[y == 3] alone"),
    ("5.2", "z_dresses = z_dresses[:5].repeat(200, 1)", "few points, many times"),
    ("5.2", "z_dresses = z_dresses + 2 * mu[y == 3].std(dim=0) * torch.randn(1000, 2)", "wider than the codes"),
    ("5.2", "z_dresses = mu[y == 3].mean(dim=0) + 0.2 * torch.randn(1000, 2)", "not around one centre"),
    ("5.2", "z_dresses = z_dresses[:10]", "expected shape (1000, 2), received shape (10, 2)"),
    ("5.3", "z_arc = (1 - mix) * start + mix * end", "the straight line"),
    ("5.3", "z_arc = 1.05 * z_arc", "(shape (10, 2)). Expected: ten points"),
    ("5.3", "z_arc = z_arc.flip(0)", "from the trousers to the bag"),
    ("5.3", "z_arc = z_arc.flip(1)", "z1 and z2 are swapped"),
    ("5.3", "z_arc = radii[0] * torch.cat([angle.cos(), angle.sin()], dim=1)", "the radius stays"),
    ("5.3", "z_arc = torch.cat([angle.cos(), angle.sin()], dim=1)", "all radii are 1"),
    ("6.1", "bound_of = lambda log_w: log_w.mean(dim=1)", "the average is outside the logarithm"),
    ("6.1", "bound_of = lambda log_w: log_w.logsumexp(dim=1)", "minus ln k"),
    ("6.1", "bound_of = lambda log_w: (log_w - math.log(500)).logsumexp(1) - math.log(500)", "subtracted twice"),
    ("6.1", "bound_of = lambda log_w: log_w.logsumexp(dim=1) - math.log(1000)", "k is the number of columns"),
    ("6.1", "bound_of = lambda log_w: log_w.amax(dim=1)", "the largest weight alone"),
    ("6.1", "bound_of = lambda log_w: (log_w.logsumexp(dim=1) - math.log(500)).mean()", "one number for all images"),
    ("6.1", "bound_of = lambda log_w: log_w.logsumexp(dim=0) - math.log(8)", "averages over the images"),
    ("6.1", "bound_of = lambda log_w: log_w.exp().mean(dim=1).log()", "logsumexp"),
    ("6.1", "bound_of = lambda log_w: math.log(500) - log_w.logsumexp(dim=1)", "the sign is the other way round"),
    ("6.2", "mean, log_variance = start", "the encoder's own means"),
    ("6.2", "log_variance = log_variance / 2", "that is log sigma;"),
    ("6.2", "log_variance = log_variance.exp()", "that is sigma²"),
    ("6.2", "log_variance = torch.exp(log_variance / 2)", "that is sigma;"),
    ("6.2", "mean = 2 * start[0] - mean", "the mean gap grew"),
    ("6.2", SOLUTIONS["6.2"].replace("loss = loss + helpers.kl", "helpers.kl"), "too narrow: is kl in the loss?"),
    ("6.2", SOLUTIONS["6.2"].replace("loss + helpers", "loss + 2 * helpers"), "too wide: does kl count more"),
    ("6.2", "mean = start[0] + 0.1 * (mean - start[0]); log_variance = start[1]", "close most of it"),
    ("6.2", "log_variance = log_variance[0]", "expected shape (20, 2), received shape (2,)"),
    ("6.3", SHORTER.replace("2 * torch", "torch"), "sigma is not doubled"),
    ("6.3", SHORTER.replace("2 * torch", "2**0.5 * torch"), "only √2 times as large"),
    ("6.3", SHORTER.replace("2 * torch.exp(logvar[i] / 2)", "torch.exp(logvar[i])"), "2 ln 2"),
    ("6.3", SHORTER.replace("q.log_prob", "Normal(mu[i], q.stddev / 2).log_prob"), "exceed log p(x)"),
    ("6.3", SHORTER.replace("- q.log_prob(z).sum(dim=1)", ""), "is log q(z) subtracted"),
    ("6.3", "wide_w = wide_w.exp()", "those are the weights"),
    ("6.3", SHORTER.replace("q.sample", "Normal(mu[i], q.stddev / 2).sample"), "draw with it too"),
    ("6.3", "wide_w = wide_w.T", "expected shape (200, 1000), received shape (1000, 200)"),
    ("6.4", "correlations = correlations[::-1]", "the two are swapped"),
    ("6.4", SOLUTIONS["6.4"].replace(".abs()", ""), "signed error"),
    ("6.4", SOLUTIONS["6.4"].replace("sigma, radius = torch.exp(logvar.amin(dim=1) / 2)",
                                     "sigma, radius = logvar.amin(dim=1)"), "log sigma²; take sigma"),
    ("6.4", SOLUTIONS["6.4"].replace(".amin(dim=1) / 2", ".amin(dim=1)"), "with sigma²; take sigma"),
    ("6.4", SOLUTIONS["6.4"].replace(", refine=1", ""), "the cells are refined"),
    ("7.1", SOLUTIONS["7.1"].replace("side) + 0.5) / side", "side) + 1) / (side + 1)"), "that is j / (n + 1)"),
    ("7.1", SOLUTIONS["7.1"].replace("Normal(0, 1).icdf(", "("), "those are shares between 0 and 1"),
    ("7.1", "def middles(side):\n    a = Normal(0, 1).icdf((torch.arange(side) + 0.5) / side)\n"
            "    return torch.cartesian_prod(*[torch.linspace(a[0], a[-1], side)] * 2)", "have even steps"),
    ("7.1", SOLUTIONS["7.1"].replace("(torch.arange(side) + 0.5)", "torch.arange(side)"), "0 and 1 are the borders"),
    ("7.1", "middles = lambda side: torch.cartesian_prod(*[torch.linspace(-3, 3, side)] * 2)", "have even steps"),
    ("7.1", "middles = lambda side: torch.zeros(side, 2)", "expected shape (16, 2), received shape (4, 2)"),
    ("7.2", "own, moved = moved, own", "the first is the larger one"),
    ("7.2", "own, moved = 268, 269", "was it trained with fixed points"),
    ("7.2", "own, moved = 262.0, 265.7", "too good for 300 steps"),
    ("7.2", "own, moved = 100, 300", "received 100.0 and 300.0"),
    ("7.2", "own, moved = 266, 276", "received 266.0 and 276.0"),
    ("7.3", "memory = [n / 4 for n in memory]", "4 bytes of a number"),
    ("7.3", "memory = [2 * n for n in memory]", "numbers of 8 bytes"),
    ("7.3", "memory = [5, 100, 1000]", "received 5, 100, 1000"),
    ("7.3", "memory = [n / 784 for n in memory]", "without the 784 pixels"),
    ("7.3", "memory = [8 * n for n in memory]", "those are bits"),
    ("7.3", "memory = [1000 * n for n in memory]", "those are MB"),
    ("7.3", "memory = [n * 1e9 / 2**30 for n in memory]", "those are GiB"),
    ("7.3", "memory = [40 * d * 784 * 4 / 1e9 for d in (2, 3, 4)]", "that is 40 d points"),
    ("7.4", "cheaper_mean, cheaper_median = cheaper_median, cheaper_mean", "median and mean are swapped"),
    ("7.4", "cheaper_mean, cheaper_median = cheaper_median.round(decimals=1), cheaper_mean.round(decimals=1)",
            "are swapped"),
    ("7.4", "cheaper_mean, cheaper_median = -cheaper_mean, -cheaper_median", "how much dearer"),
    ("8.1", SOLUTIONS["8.1"].replace("x[(y == 5) | (y == 7) | (y == 9)]", "x"), "of all garments"),
    ("8.1", OF_SHOES.format("torch.cov(shoes.T)"), "of C itself"),
    ("8.1", OF_SHOES.format("torch.cov(shoes.T) / scale[:, None] / scale"), "D is inverted the other way"),
    ("8.1", OF_SHOES.format("scale[:, None] * (shoes.T @ shoes) * scale / len(shoes)"), "mean is not subtracted"),
    ("8.1", SOLUTIONS["8.1"].replace("(y == 5) | (y == 7) | (y == 9)", "y == 7"), "one class only"),
    ("8.2", "beta_of_half = 0.5", "the other way round"),
    ("8.2", "beta_of_half = 4", "a factor ½ is missing"),
    ("8.3", "beta_of_repository = 0.001", "averaged over 784 pixels"),
    ("8.3", "beta_of_repository = 0.0005 * 784", "for the variance 1"),
    ("8.3", "beta_of_repository = 0.002 * 784", "cancel"),
    ("8.3", "beta_of_repository = 784", "without the 0.001"),
    ("8.3", "beta_of_repository = 1 / 0.784", "that is 1 / beta"),
    ("8.4", SOLUTIONS["8.4"].replace("min=1.0", "min=0.5"), "½ nat is free"),
    ("8.4", SOLUTIONS["8.4"].replace(".clamp(min=1.0)", ""), "nothing is free"),
    ("8.4", SOLUTIONS["8.4"].replace("100 * ", ""), "not multiplied by 100"),
    ("8.4", SOLUTIONS["8.4"].replace(".sum()", ".mean()"), "averaged; sum over them"),
    ("8.4", SOLUTIONS["8.4"].replace("each.clamp(min=1.0)", "each[each > 1]"), "leaps by 100 nats"),
    ("8.4", SOLUTIONS["8.4"].replace(".sum()", ".sum().item()"), "its gradient is gone"),
    ("8.4", SOLUTIONS["8.4"].replace("100 * ", "100 * min(1, 2 * done) * "), "as in warm-up"),
    ("8.4", SOLUTIONS["8.4"].replace("min=1.0", "max=1.0"), "clamp(max=1)"),
    ("8.4", SOLUTIONS["8.4"].replace("each.clamp(min=1.0)", "(each - 1)"), "the free nats are subtracted"),
    ("8.4", SOLUTIONS["8.4"].replace(".clamp(min=1.0).sum()", ".sum().clamp(min=1.0)"), "applied to the sum"),
    ("9.1", "finds = finds[:7]", "expected shape (8,), received shape (7,)"),
    ("9.1", "finds = [3, 14, 7, 1, 11, 8, 4, 13]", "6 of 8 are right; look again at A, E"),
    ("9.1", "finds = [1] * 8", "1 of 8 are right"),
    ("9.2", "smallest = -math.log(2)", "that is the logvar at which"),
    ("9.2", "smallest = 2 * smallest", "the factor ½ in front is missing"),
    ("9.2", "smallest = 0", "but this is not the right formula"),
    ("9.3", "hears = lambda vae: True", "it says True of a decoder that multiplies z by 0"),
    ("9.3", "listens = hears; hears = lambda vae: not listens(vae)", "True and False are swapped"),
    ("9.3", "hears = lambda vae: False", "for a sound model or for a deaf one"),
    ("9.3", "def hears(vae):\n    z = torch.randn(2, vae.config['latent_dim'])\n"
            "    return bool(vae.decode(z).diff(dim=0).abs().max() > 1e-3)", "hardly hears z for a deaf one"),
    ("9.3", "hears = lambda vae: not torch.allclose(*vae.decode(torch.randn(2, vae.config['latent_dim'])))",
            "hardly hears z for a deaf one"),
    ("9.3", "hears = lambda vae: 1.0", "received a float"),
    ("9.3", "hears = lambda vae: vae.decode(torch.tensor([[-1.0, 0.0], [1.0, 0.0]])).diff(dim=0).any()", "config"),
    ("10.1", SOLUTIONS["10.1"].replace(".mean(dim=0)", ""), "pairs of image and dimension"),
    ("10.1", SOLUTIONS["10.1"].replace(".mean(dim=0)", ".sum(dim=1)"), "that counts images"),
    ("10.1", SOLUTIONS["10.1"].replace(".mean(dim=0)", ".amax(dim=0)"), "in which any image"),
    ("10.1", SOLUTIONS["10.1"].replace("> 0.1", "<= 0.1"), "those are the dead ones"),
    ("10.1", SOLUTIONS["10.1"].replace("0.5 * ", ""), "the factor ½ is missing"),
    ("10.1", SOLUTIONS["10.1"].replace(".mean(dim=0)", ".sum(dim=0)"), "counts every dimension"),
    ("10.1", SOLUTIONS["10.1"].replace(" - 1", ""), "keep the -1"),
    ("10.1", SOLUTIONS["10.1"].replace(".mean(dim=0)", ".std(dim=0)"), "the standard deviation over the images"),
    ("10.1", SOLUTIONS["10.1"].replace("logvar.exp()", "torch.exp(logvar / 2)"), "sigma where sigma² belongs"),
    ("10.1", SOLUTIONS["10.1"].replace("1 - logvar", "1 - logvar / 2"), "log sigma where log sigma²"),
    ("10.1", SOLUTIONS["10.1"].replace("0.5 * ", "0.25 * "), "a factor ½ too many"),
    ("10.1", "alive = lambda mu, logvar: (logvar.exp().mean(dim=0) < 0.9).sum()", "the variances alone"),
    ("10.1", "alive = lambda mu, logvar: (mu.var(dim=0) > 0.1).sum()", "large variances of mu"),
    ("10.1", "alive = lambda mu, logvar: ((mu**2 + logvar.exp() - 1 - logvar).median(0)[0] > 0.2).sum()", "how many"),
    ("10.1", SOLUTIONS["10.1"].replace("mu.square()", "mu.mean(dim=0).square()"), "averaged before the KL"),
    ("10.2", "ten_classes, two_classes = 2 * 246 - ten_classes, 2 * 246 - two_classes", "the price is subtracted"),
    ("10.2", "ten_classes, two_classes = 246 + math.log2(10), 246 + 0.468996", "that is in bits"),
    ("10.2", "two_classes = 246 + math.log(2)", "not equally common"),
    ("10.2", "ten_classes, two_classes = 246, 246", "nothing is added"),
    ("10.2", "ten_classes, two_classes = ten_classes - 246, two_classes - 246", "that is the price alone"),
    ("10.2", "ten_classes, two_classes = two_classes, ten_classes", "in the other order"),
    ("10.2", "two_classes = ten_classes", "two unequal classes cost less"),
    ("10.3", "deviations = (b.mean() - a.mean()) / (a.var() + b.var()).sqrt()", "means of five runs scatter less"),
    ("10.3", "deviations = b.mean() - a.mean()", "that is the difference in nats"),
    ("10.3", "deviations = (b.mean() - a.mean()) / (a.var(correction=0) + b.var(correction=0)).sqrt()", "runs, and"),
    ("10.3", "deviations = deviations * (5 / 4) ** 0.5", "divides by n, not by n - 1"),
    ("10.3", "deviations = (b.mean() - a.mean()) / ((a.std() + b.std()) / 5**0.5)", "variances add"),
]  # fmt: skip


@pytest.mark.parametrize("number, answer, words", MISTAKES)
def test_a_known_mistake_is_named(number, answer, words, solved, capsys):
    names = solved(number)

    torch.manual_seed(0)
    execute(answer, names)

    line = checked(number, names, capsys)
    assert words in line and line.startswith(f"{number}: ") and "right. " not in line and line.count("\n") == 1


def raises():
    raise KeyError("two\nlines")


ODD = ["abc", [], [[1], [1, 2]], {}, object(), math.nan, torch.full((3, 3), math.nan), np.ones((2, 2)), True, raises]


@pytest.mark.parametrize("number", STUBS)
def test_no_answer_makes_a_checker_raise_or_is_right_by_chance(number, notebook, capsys):
    names = notebook(notebook_of(number))
    cell = ast.parse(STUBS[number])
    answers = [node.id for node in ast.walk(cell) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    answers += [node.name for node in cell.body if isinstance(node, ast.FunctionDef)]

    for odd in ODD:
        line = checked(number, names | dict.fromkeys(answers, odd), capsys)

        assert line.startswith(f"{number}: ") and line.count("\n") == 1, odd
        assert "right. " not in line and "cannot be checked" not in line, odd


@pytest.mark.parametrize("nothing", [None, ..., (1, ...), lambda mu, logvar: None, lambda mu, logvar: ...])
def test_no_answer_yet_is_no_mistake(nothing, capsys):
    check("2.3", nothing)

    assert capsys.readouterr().out.startswith("2.3: not answered yet. Expected: a function of mu and logvar")


def history(recon, kl, epochs=2):
    return {"recon": [recon] * epochs, "kl": [kl] * epochs, "val_recon": [recon] * epochs, "val_kl": [kl] * epochs}


@pytest.mark.parametrize(
    "number, given, said",
    [
        ("3.2", (0.5, history(247.5, 6), history(247, 6)), "hardly knows the seed"),
        ("3.2", (4, history(251, 6), history(247, 6)), "One of the two runs has ended badly"),
        ("3.3", (0.357, history(255.9, 6)), "Most of what ten epochs gain"),
        ("3.3", (0.178, history(275.94, 6)), "gained less than two epochs usually do"),
        ("3.4", (3, history(253, 4), history(247, 6)), "less than 4, where this one did"),
        ("3.4", (9, history(274, 3), history(247, 6)), "has not found its best model"),
    ],
)
def test_a_right_answer_from_an_unusual_training_is_told_so(number, given, said, capsys):
    check(number, *given)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{number}: right. ") and said in printed


def test_a_check_leaves_the_random_numbers_of_the_notebook_alone(capsys, monkeypatch):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    monkeypatch.setattr(torch, "manual_seed", None)  # it seeds the generators of all devices

    check("2.1", lambda mu, logvar: mu + torch.exp(logvar / 2) * torch.randn_like(mu))

    assert torch.equal(torch.get_rng_state(), before) and "right" in capsys.readouterr().out


@pytest.mark.parametrize(
    "number, known",
    [
        ("2.9", "one of '2.1', '2.2', '2.3', received '2.9'"),
        (2.1, "one of '2.1', '2.2', '2.3', received 2.1"),
        ("2", "one of '2.1', '2.2', '2.3', received '2'"),
        ("99.1", "an exercise of notebooks 1, 2, 3, .*, received '99.1'"),
        (None, "an exercise of notebooks 1, 2, 3, .*, received None"),
    ],
)
def test_the_number_of_no_exercise_is_refused(number, known):
    with pytest.raises(ValueError, match=rf"^number: expected {known}$"):
        check(number, 1)


def test_a_notebook_that_lacks_what_a_checker_needs_gets_a_message(capsys):
    check("1.2", (1, 2))

    assert "1.2: this cannot be checked (TypeError: more_directions() missing" in capsys.readouterr().out
