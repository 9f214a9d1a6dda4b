"""exact: on models whose answer is known, and beside the bounds on the real one."""

import inspect
import json
import math
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.distributions import Bernoulli, Normal

import exact
import helpers
import storage

ON_A_GRID = pytest.mark.parametrize("function", [exact.log_likelihood, exact.posterior])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def x():
    return torch.rand(6, 784)


@pytest.fixture
def smooth():
    """A small model with random weights: its logits change slowly over the plane."""
    return helpers.VAE(hidden=(8,))


@pytest.fixture(scope="module")
def trained():
    return helpers.load_vae(helpers.REFERENCE), helpers.load_fashion_mnist("test")[0][:20]


def linear(model, index, weight, bias):
    layer = model.decoder[index]
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight).expand_as(layer.weight))
        layer.bias.copy_(torch.as_tensor(bias).expand_as(layer.bias))


def constant_model(logits):
    model = helpers.VAE(hidden=(2,))
    linear(model, 2, 0.0, logits)
    return model


def slope_model(slope):
    """Every logit is slope * z1."""
    model = helpers.VAE(hidden=())
    linear(model, 0, torch.tensor([slope, 0.0]), 0.0)
    return model


def two_sided_model(left, right):
    """Logits `left` where z1 < 0 and `right` where z1 > 0: a step made of two SiLU units."""
    model = helpers.VAE(hidden=(2,))
    linear(model, 0, torch.tensor([[1e4, 0.0], [1e4, 0.0]]), torch.tensor([0.0, -100.0]))
    linear(model, 2, torch.stack([right - left, left - right], dim=1) / 100, left)
    return model


def log_p_of(x, logits):
    """log p(x|z) by the distribution of the grey expectation: x log p + (1 - x) log(1 - p), summed over pixels."""
    one, zero = Bernoulli(logits=logits).log_prob(torch.ones(784)), Bernoulli(logits=logits).log_prob(torch.zeros(784))
    return (x * one + (1 - x) * zero).sum(dim=-1)


def watch(model):
    """Return a list that gets the points of each call of the decoder from now on."""
    decoded = []
    model.decoder.register_forward_hook(lambda module, inputs, logits: decoded.append(inputs[0]))
    return decoded


# the joint


def test_log_joint_is_the_likelihood_and_the_prior_of_every_pair(smooth, x):
    z = torch.randn(5, 2)

    joint = exact.log_joint(smooth, x, z)

    for i, j in ((0, 0), (2, 4), (5, 1)):
        expected = log_p_of(x[i], smooth.decode(z[j : j + 1])[0]) + Normal(0, 1).log_prob(z[j]).sum()
        torch.testing.assert_close(joint[i, j], expected, rtol=0, atol=1e-3)


def test_log_joint_takes_points_of_numpys_precision(smooth, x):
    z = torch.randn(5, 2)
    torch.testing.assert_close(exact.log_joint(smooth, x, z.double()), exact.log_joint(smooth, x, z))


def test_log_joint_keeps_no_graph_and_is_on_the_cpu(smooth, x):
    joint = exact.log_joint(smooth, x, torch.randn(5, 2))

    assert joint.shape == (6, 5) and not joint.requires_grad and joint.device.type == "cpu"


# the likelihood


def test_a_decoder_that_ignores_z_has_the_likelihood_of_its_only_answer(x):
    logits = torch.randn(784)

    log_p = exact.log_likelihood(constant_model(logits), x, size=60, refine=2)

    torch.testing.assert_close(log_p, log_p_of(x, logits), rtol=0, atol=2e-3)


def test_a_decoder_with_two_answers_has_the_likelihood_of_their_even_mixture(x):
    left, right = torch.randn(2, 784) / 10
    model = two_sided_model(left, right)
    torch.testing.assert_close(model.decode(torch.tensor([[-1.0, 2.0], [1.0, 0.0]])), torch.stack([left, right]))

    log_p = exact.log_likelihood(model, x, size=60, refine=2)

    both = torch.stack([log_p_of(x, left), log_p_of(x, right)])
    torch.testing.assert_close(log_p, both.logsumexp(dim=0) - math.log(2), rtol=0, atol=2e-3)


@pytest.mark.parametrize("slope, refine", [(0.02, 1), (0.02, 3), (1.0, 6)])
def test_a_gaussian_likelihood_in_z1_has_the_closed_form_of_a_linear_gaussian_model(slope, refine):
    """With logits near 0 and pixels of a half, p(x|z) is nearly a Gaussian bump around 0."""
    x = torch.full((1, 784), 0.5)

    log_p = exact.log_likelihood(slope_model(slope), x, 40, refine=refine).item()

    precision = 784 * slope**2 / 4  # of the bump, from the second derivative of softplus at 0
    assert log_p == pytest.approx(-784 * math.log(2) - math.log(1 + precision) / 2, abs=2e-3)


def test_a_posterior_that_falls_between_the_cells_is_found_when_they_are_cut():
    x = torch.full((1, 784), 0.5)

    whole, cut, smaller = (exact.log_likelihood(slope_model(1.0), x, 40, refine=count) for count in (1, 6, 12))

    assert abs(whole - cut) > 0.3 and abs(smaller - cut) < 2e-3


@pytest.mark.parametrize("size", [20, 23])
def test_cells_that_are_cut_are_the_cells_of_a_finer_square(smooth, x, size):
    cut, finer = (exact.log_likelihood(smooth, x, *cells) for cells in ((size, 3.0, 4), (4 * size, 3.0, 1)))

    torch.testing.assert_close(cut, finer, rtol=0, atol=2e-3)


@pytest.mark.parametrize("refine", [1, 2, 3, 4])
def test_the_points_of_cells_that_are_cut_are_those_of_a_finer_square(x, refine):
    model = constant_model(torch.zeros(784))  # the posterior is the prior: every cell is cut
    decoded = watch(model)

    exact.log_likelihood(model, x, 20, 5.0, refine)

    coarse, *fine = torch.cat(decoded).split([400, (20 * refine) ** 2] if refine > 1 else [400])
    for points, size in zip((coarse, *fine), (20, 20 * refine)):
        grid = helpers.plane_grid(10 / size * (torch.arange(size) + 0.5) - 5)
        torch.testing.assert_close(ordered(points), ordered(grid), rtol=0, atol=1e-5)


def ordered(points):
    return torch.tensor(sorted(points.mul(1e4).round().div(1e4).tolist()))


def test_every_image_gets_the_cells_that_it_needs(monkeypatch):
    x = torch.linspace(0.3, 0.7, 5)[:, None].expand(5, 784)  # from left to right in the plane of this model
    model, pairs, log_joint = slope_model(1.0), [], exact.log_joint
    count = lambda model, x, z: pairs.append(len(x) * len(z)) or log_joint(model, x, z)  # noqa: E731
    monkeypatch.setattr(exact, "log_joint", count)

    together = exact.log_likelihood(model, x, size=40)

    assert sum(pairs) < 5 * 0.5 * 160**2  # each image is met only where it has a share
    alone = torch.cat([exact.log_likelihood(model, image[None], size=40) for image in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-3)


def test_only_cells_with_a_share_of_the_posterior_are_cut():
    model = slope_model(1.0)
    decoded = watch(model)

    exact.log_likelihood(model, torch.full((1, 784), 0.5), size=40, refine=6)

    assert 40**2 < sum(map(len, decoded)) < 0.3 * 240**2  # the posterior is a strip along z2


def test_a_tile_is_cut_where_its_share_is_above_exp_minus_14(x):
    model = constant_model(torch.zeros(784))  # the posterior is the prior
    decoded = watch(model)

    exact.log_likelihood(model, x, size=40, refine=2)

    sides = Normal(0, 1).cdf(torch.linspace(-5, 5, 9, dtype=torch.float64)).diff()  # of eight tiles of five cells
    cut = (torch.outer(sides, sides).log() > -14).sum().item()
    assert 40 < cut < 60 and sum(map(len, decoded)) == 40**2 + cut * 10**2


def test_the_bounds_are_ordered_for_every_image(trained):
    """ELBO <= IWAE_10 <= IWAE_100 <= log p(x), each within four standard errors of its own draws."""
    vae, x = trained
    mu, logvar = helpers.encode(vae, x)
    normal = Normal(mu, torch.exp(logvar / 2))
    z = normal.sample((1000,))
    log_w = torch.stack([exact.log_joint(vae, x[i : i + 1], z[:, i])[0] for i in range(len(x))])
    log_w -= normal.log_prob(z).sum(dim=2).T

    groups = {k: log_w.view(len(x), -1, k).logsumexp(dim=2) - math.log(k) for k in (1, 10, 100)}
    bounds = [value.mean(dim=1) for value in groups.values()] + [exact.log_likelihood(vae, x)]
    error = [value.std(dim=1) / value.shape[1] ** 0.5 for value in groups.values()] + [torch.full((len(x),), 0.05)]

    for low, high, low_error, high_error in zip(bounds, bounds[1:], error, error[1:]):
        assert (low <= high + 4 * (low_error + high_error)).all()
    assert bounds[0].mean() < bounds[1].mean() < bounds[2].mean() < bounds[3].mean()
    assert ((exact.elbo(vae, x) - bounds[0]).abs() < 4 * error[0] + 0.05).all()


# the posterior


def test_the_posterior_is_the_joint_divided_by_its_sum(smooth, x):
    middles = (torch.arange(60) + 0.5) / 6 - 5
    z2, z1 = torch.meshgrid(middles, middles, indexing="ij")

    mass = exact.posterior(smooth, x, size=60)

    joint = exact.log_joint(smooth, x, torch.stack([z1.flatten(), z2.flatten()], dim=1)).double().exp()
    expected = joint / joint.sum(dim=1, keepdim=True)
    torch.testing.assert_close(mass.flatten(start_dim=1).double(), expected, rtol=1e-2, atol=1e-7)


def test_the_posterior_lies_on_the_side_whose_answer_the_image_is():
    left, right = torch.full((784,), -3.0), torch.full((784,), 3.0)

    mass = exact.posterior(two_sided_model(left, right), torch.ones(1, 784), size=100)[0]

    assert mass[:, 50:].sum().item() == pytest.approx(1)
    assert mass[:50].sum().item() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("points, rows", [(45, 3), (16, 1), (1, 1)])
def test_the_posterior_in_parts_is_that_of_all(smooth, x, monkeypatch, points, rows):
    whole = exact.posterior(smooth, x, size=15)
    monkeypatch.setattr(exact, "POINTS", points)
    decoded = watch(smooth)

    # a step of float32 is 6e-5 at 600 nats, and products of other shapes are rounded elsewhere
    torch.testing.assert_close(exact.posterior(smooth, x, size=15), whole, rtol=2e-3, atol=1e-7)
    assert [len(z) for z in decoded] == [15 * rows] * (15 // rows)


@pytest.mark.parametrize("count, size, half_width", [(1, 15, 0.5), (5, 16, 9.0), (2, 17, 1.5)])
@pytest.mark.filterwarnings("ignore:.* at the border")  # so few cells leave mass there
def test_the_posterior_in_any_square_is_a_distribution_over_its_cells(smooth, x, count, size, half_width):
    mass = exact.posterior(smooth, x[:count], size, half_width)

    assert mass.shape == (count, size, size) and (mass >= 0).all()
    torch.testing.assert_close(mass.sum(dim=(1, 2)), torch.ones(count))


# the ELBO by quadrature


def test_the_elbo_of_a_decoder_that_ignores_z_is_its_only_answer_minus_the_kl(x):
    logits = torch.randn(784)
    model = constant_model(logits)

    elbo = exact.elbo(model, x)

    q = Normal(*(value.detach() for value in moments(model, x)))
    expected = log_p_of(x, logits) - torch.distributions.kl_divergence(q, Normal(0, 1)).sum(dim=1)
    torch.testing.assert_close(elbo, expected, rtol=0, atol=5e-3)


def moments(model, x):
    mu, logvar = model.encode(x)
    return mu, (logvar / 2).exp()


def test_the_elbo_is_the_mean_of_many_draws_within_four_standard_errors(smooth, x):
    elbo = exact.elbo(smooth, x)

    draws = -torch.stack([sum(helpers.evaluate(smooth, x)) for _ in range(2000)])
    assert ((elbo - draws.mean(dim=0)).abs() < 4 * draws.std(dim=0) / math.sqrt(2000) + 2e-3).all()


def test_the_elbo_weighs_its_nodes_as_a_sum_over_fine_cells_does():
    """In a model whose logits are steep lines, so that softplus is far from its tangent."""
    model, x = helpers.VAE(hidden=()), torch.rand(1, 784)
    linear(model, 0, torch.tensor([2.0, -1.0]), torch.randn(784))

    elbo = exact.elbo(model, x, nodes=20).item()

    mu, sigma = (value.detach() for value in moments(model, x))
    z = mu + sigma * torch.cartesian_prod(*[torch.linspace(-6, 6, 121)] * 2)
    weights = Normal(mu, sigma).log_prob(z).sum(dim=1).softmax(dim=0)
    kl = torch.distributions.kl_divergence(Normal(mu, sigma), Normal(0, 1)).sum().item()
    expected = (weights * log_p_of(x, model.decode(z).detach())).sum().item() - kl
    assert elbo == pytest.approx(expected, abs=0.01)


def test_the_elbo_is_never_above_the_log_likelihood(smooth, x):
    assert (exact.elbo(smooth, x) < exact.log_likelihood(smooth, x, size=60, refine=1)).all()


@pytest.mark.parametrize("points, images", [(128, 2), (191, 2), (64, 1), (1, 1)])
def test_the_elbo_in_parts_is_that_of_all_and_keeps_no_graph(smooth, x, monkeypatch, points, images):
    whole = exact.elbo(smooth, x)
    monkeypatch.setattr(exact, "POINTS", points)
    decoded = watch(smooth)

    torch.testing.assert_close(exact.elbo(smooth, x), whole, rtol=0, atol=2e-3)
    assert whole.shape == (6,) and not whole.requires_grad
    assert [z.shape for z in decoded] == [(64 * images, 2)] * (6 // images)


# a second opinion


def headlines(checkpoint):
    """What a NumPy script that knows nothing of ours finds on 200 test images."""
    folder = storage.raw(storage.fetch_fashion_mnist())
    program = [sys.executable, Path(__file__).parent / "programs" / "headlines.py", checkpoint, folder, "200"]
    return json.loads(subprocess.run(program, check=True, capture_output=True, encoding="utf-8").stdout)


def test_a_numpy_script_finds_the_exact_cost_of_the_decoder_of_notebook_07():
    path = helpers.REFERENCE.with_name("decoder_alone.pt")
    alone, x = helpers.load_vae(path), helpers.load_fashion_mnist("test")[0][:200]

    ours = -exact.log_likelihood(alone, x, size=240, half_width=6).mean().item()
    assert headlines(path) == {"truth": pytest.approx(ours, abs=0.02)}


def test_a_numpy_script_that_knows_nothing_of_ours_finds_the_headlines_of_notebook_06():
    found = headlines(helpers.REFERENCE)

    vae, x = helpers.load_vae(helpers.REFERENCE), helpers.load_fashion_mnist("test")[0][:200]
    truth, elbo = exact.log_likelihood(vae, x), exact.elbo(vae, x)
    gap, kl = truth - elbo, helpers.kl_divergence(*helpers.encode(vae, x))
    worst = gap.sort(descending=True).values.cumsum(dim=0) / gap.sum()
    coarse = exact.log_likelihood(vae, x, size=100, refine=1) - truth
    ours = {"recon": (-elbo - kl).mean(), "kl": kl.mean(), "bound": -elbo.mean(), "truth": -truth.mean()}
    ours |= {"gap, mean": gap.mean(), "gap, median": gap.quantile(0.5), "gap, smallest": gap.min()}
    ours |= {"worst 1 %": 100 * worst[1], "worst 10 %": 100 * worst[19], "100 x 100 cells, mean error": coarse.mean()}
    assert {name: value.item() for name, value in ours.items()} == pytest.approx(found, abs=2e-3, rel=1e-4)


# the border


@ON_A_GRID
def test_a_square_that_misses_posterior_mass_says_what_to_enlarge(function):
    words = r"1 of 1 images have more than 5 % .* Enlarge half_width \(now 5\)"

    with pytest.warns(UserWarning, match=words):
        function(slope_model(0.2), torch.ones(1, 784), size=30)  # an all-black image pulls z1 beyond any border
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(slope_model(0.2), torch.full((1, 784), 0.5), size=30)


def share_at_border(cells, half_width, size):
    """How much of the prior lies in the outer `cells` of a square on each side."""
    middles = (torch.arange(size) + 0.5) * 2 * half_width / size - half_width
    density = Normal(0, 1).log_prob(middles).exp()
    return 1 - (density[cells : size - cells].sum() / density.sum()).item() ** 2


BORDERS = {  # how many cells are the border; a square that is wide enough, and one that is not
    "posterior": (exact.posterior, 1, (15, 2.5), (15, 1.9)),
    "log_likelihood": (exact.log_likelihood, exact.TILE, (25, 4.0), (30, 3.0)),
}


@pytest.mark.parametrize("function, cells, enough, narrow", BORDERS.values(), ids=BORDERS)
def test_only_the_outermost_cells_or_tiles_are_the_border(function, cells, enough, narrow, x):
    """The posterior of a decoder that ignores z is the prior, which has little mass there and more inside of it."""
    model = constant_model(torch.zeros(784))
    assert share_at_border(cells, *enough[::-1]) < 0.04 and share_at_border(cells + 1, *enough[::-1]) > 0.07
    assert share_at_border(cells, *narrow[::-1]) > 0.08

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(model, x, *enough)
    with pytest.warns(UserWarning, match="6 of 6 images have more than 5 %"):
        function(model, x, *narrow)


@ON_A_GRID
@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("direction", [0, 1])
def test_every_side_of_the_square_is_its_border(function, direction, side):
    model = helpers.VAE(hidden=())
    linear(model, 0, side * torch.eye(2)[direction], 0.0)

    with pytest.warns(UserWarning, match="1 of 1 images"):
        function(model, torch.ones(1, 784), size=20)


@ON_A_GRID
def test_the_warning_points_at_the_line_that_asked(function):
    with pytest.warns(UserWarning, match="at the border") as caught:
        function(slope_model(0.2), torch.ones(1, 784), size=30)

    assert [warning.filename for warning in caught] == [__file__]


def test_more_than_five_percent_at_the_border_is_too_much():
    with pytest.warns(UserWarning, match="1 of 3 images"):
        exact._warn_of_border(torch.tensor([0.04, 0.05, 0.06]), 5.0)


# what is asked, and what is refused


def test_the_square_reaches_to_5_on_each_side_and_has_cells_enough_unless_asked(smooth, x):
    mass = exact.posterior(smooth, x[:1])

    assert mass.shape == (1, 300, 300) and not mass.requires_grad
    assert defaults(exact.posterior) == {"size": 300, "half_width": 5.0}
    assert defaults(exact.log_likelihood) == {"size": 200, "half_width": 5.0, "refine": 4}
    assert defaults(exact.elbo) == {"nodes": 8}


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


@pytest.mark.parametrize("shape", [(5, 3), (2,), (5, 2, 1)])
def test_points_outside_a_plane_are_refused(smooth, x, shape):
    with pytest.raises(ValueError, match=r"^z: expected shape \(N, 2\), received "):
        exact.log_joint(smooth, x, torch.zeros(shape))


@ON_A_GRID
def test_a_latent_space_that_is_no_plane_is_refused(function, x):
    with pytest.raises(ValueError, match="expected latent_dim 2 for a sum over a plane, found 3"):
        function(helpers.VAE(latent_dim=3, hidden=(8,)), x, size=15)


def test_the_elbo_in_a_latent_space_that_is_no_plane_is_refused(x):
    with pytest.raises(ValueError, match="expected latent_dim 2 for a sum over a plane, found 3"):
        exact.elbo(helpers.VAE(latent_dim=3, hidden=(8,)), x)


@ON_A_GRID
@pytest.mark.parametrize(
    "size, half_width", [(14, 5.0), (0, 5.0), (-15, 5.0), (20.5, 5.0), (100, 0.0), (100, -1.0), (100, math.inf)]
)
def test_cells_that_cannot_be_are_refused(smooth, x, function, size, half_width):
    with pytest.raises(ValueError) as caught:
        function(smooth, x, size, half_width)

    assert "expected a whole size >= 15, half_width > 0" in str(caught.value)
    assert f"received {size}, {half_width} and " in str(caught.value)


@pytest.mark.parametrize("refine", [0, -1, 2.5])
def test_cells_cannot_be_cut_into_fewer_than_one_or_a_part(smooth, x, refine):
    with pytest.raises(ValueError, match=f"refine >= 1, received 50, 5.0 and {refine}$"):
        exact.log_likelihood(smooth, x, size=50, refine=refine)


@pytest.mark.parametrize("function", [exact.log_likelihood, exact.posterior, exact.elbo])
def test_images_of_the_wrong_kind_are_refused(smooth, function):
    with pytest.raises(ValueError, match=r"x: expected float32 images \(N, 784\)"):
        function(smooth, torch.zeros(2, 28, 28))
