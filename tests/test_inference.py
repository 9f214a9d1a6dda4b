"""Tests of exact inference in helpers.py, on models whose answer is known, and of the bounds on the real one."""

import inspect
import math
import warnings

import pytest
import torch
from torch.distributions import Bernoulli, Normal

import helpers


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
    return helpers.load_vae(helpers.REFERENCE), helpers.load_fashion_mnist("test")[0][:40]


def linear(model, index, weight, bias):
    layer = model.decoder[index]
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight).expand_as(layer.weight))
        layer.bias.copy_(torch.as_tensor(bias).expand_as(layer.bias))


def constant_model(logits):
    model = helpers.VAE(hidden=(2,))
    linear(model, 2, 0.0, logits)
    return model


def two_sided_model(left, right):
    """Logits `left` where z1 < 0 and `right` where z1 > 0: a step made of two SiLU units."""
    model = helpers.VAE(hidden=(2,))
    linear(model, 0, torch.tensor([[1e4, 0.0], [1e4, 0.0]]), torch.tensor([0.0, -100.0]))
    linear(model, 2, torch.stack([right - left, left - right], dim=1) / 100, left)
    return model


def log_likelihood(x, logits):
    """log p(x|z) by the distribution of the grey expectation: x log p + (1 - x) log(1 - p), summed over pixels."""
    one, zero = Bernoulli(logits=logits).log_prob(torch.ones(784)), Bernoulli(logits=logits).log_prob(torch.zeros(784))
    return (x * one + (1 - x) * zero).sum(dim=-1)


def test_log_joint_is_the_likelihood_and_the_prior_of_every_pair(smooth, x):
    z = torch.randn(5, 2)

    joint = helpers.log_joint(smooth, x, z)

    for i, j in ((0, 0), (2, 4), (5, 1)):
        expected = log_likelihood(x[i], smooth.decode(z[j : j + 1])[0]) + Normal(0, 1).log_prob(z[j]).sum()
        torch.testing.assert_close(joint[i, j], expected, rtol=1e-5, atol=1e-3)


def test_a_decoder_that_ignores_z_has_the_likelihood_of_its_only_answer(x):
    logits = torch.randn(784)

    log_p = helpers.exact_log_likelihood(constant_model(logits), x, size=100)

    torch.testing.assert_close(log_p, log_likelihood(x, logits), rtol=0, atol=2e-3)


def test_a_decoder_with_two_answers_has_the_likelihood_of_their_even_mixture(x):
    left, right = torch.randn(2, 784) / 10
    model = two_sided_model(left, right)
    torch.testing.assert_close(model.decode(torch.tensor([[-1.0, 2.0], [1.0, 0.0]])), torch.stack([left, right]))

    log_p = helpers.exact_log_likelihood(model, x, size=200)

    both = torch.stack([log_likelihood(x, left), log_likelihood(x, right)])
    torch.testing.assert_close(log_p, both.logsumexp(dim=0) - math.log(2), rtol=0, atol=2e-3)


def test_a_gaussian_likelihood_in_z1_has_the_closed_form_of_a_linear_gaussian_model():
    """With small weights and x = sigmoid(0) everywhere, p(x|z) is nearly a Gaussian bump around 0."""
    model = helpers.VAE(hidden=())
    linear(model, 0, torch.tensor([0.02, 0.0]), 0.0)
    x = torch.full((1, 784), 0.5)

    log_p = helpers.exact_log_likelihood(model, x, size=200)

    precision = 784 * 0.02**2 / 4  # of the bump, from the second derivative of softplus at 0
    torch.testing.assert_close(log_p[0].item(), -784 * math.log(2) - math.log(1 + precision) / 2, rtol=0, atol=2e-3)


def test_a_finer_grid_changes_a_smooth_model_by_less_than_a_hundredth_of_a_nat(smooth, x):
    coarse, fine = (helpers.exact_log_likelihood(smooth, x, size) for size in (100, 300))

    torch.testing.assert_close(coarse, fine, rtol=0, atol=0.01)


def test_the_bounds_are_ordered_for_every_image(trained):
    """ELBO <= IWAE_10 <= IWAE_100 <= log p(x), each within four standard errors of its own draws."""
    vae, x = trained
    mu, logvar = helpers.encode(vae, x)
    normal = Normal(mu, torch.exp(logvar / 2))
    z = normal.sample((2000,))
    log_w = torch.stack([helpers.log_joint(vae, x[i : i + 1], z[:, i])[0] for i in range(len(x))])
    log_w -= normal.log_prob(z).sum(dim=2).T

    groups = {k: log_w.view(len(x), -1, k).logsumexp(dim=2) - math.log(k) for k in (1, 10, 100)}
    bounds = [value.mean(dim=1) for value in groups.values()] + [helpers.exact_log_likelihood(vae, x, size=500)]
    error = [value.std(dim=1) / value.shape[1] ** 0.5 for value in groups.values()] + [torch.full((len(x),), 0.05)]

    for low, high, low_error, high_error in zip(bounds, bounds[1:], error, error[1:]):
        assert (low <= high + 4 * (low_error + high_error)).all()
    assert bounds[0].mean() < bounds[1].mean() < bounds[2].mean() < bounds[3].mean()


def test_the_posterior_is_the_joint_divided_by_its_sum(smooth, x):
    axis = torch.linspace(-5, 5, 60)
    z2, z1 = torch.meshgrid(axis, axis, indexing="ij")

    mass = helpers.exact_posterior(smooth, x, size=60)

    joint = helpers.log_joint(smooth, x, torch.stack([z1.flatten(), z2.flatten()], dim=1)).double().exp()
    expected = joint / joint.sum(dim=1, keepdim=True)
    torch.testing.assert_close(mass.flatten(start_dim=1).double(), expected, rtol=1e-3, atol=1e-7)


def test_the_posterior_lies_on_the_side_whose_answer_the_image_is():
    left, right = torch.full((784,), -3.0), torch.full((784,), 3.0)

    mass = helpers.exact_posterior(two_sided_model(left, right), torch.ones(1, 784), size=100)[0]

    assert mass[:, 50:].sum().item() == pytest.approx(1)
    assert mass[:50].sum().item() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("function", [helpers.exact_log_likelihood, helpers.exact_posterior])
def test_a_grid_that_misses_posterior_mass_says_what_to_enlarge(function, x):
    model = helpers.VAE(hidden=())
    linear(model, 0, torch.tensor([0.2, 0.0]), 0.0)  # an all-black image pulls z1 beyond any border

    with pytest.warns(UserWarning, match=r"1 of 1 images have more than 5 % .* Enlarge half_width \(now 5\)"):
        function(model, torch.ones(1, 784), size=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(model, torch.full((1, 784), 0.5), size=60)


@pytest.mark.parametrize("function", [helpers.exact_log_likelihood, helpers.exact_posterior])
def test_the_warning_points_at_the_line_that_asked(function):
    model = helpers.VAE(hidden=())
    linear(model, 0, torch.tensor([0.2, 0.0]), 0.0)

    with pytest.warns(UserWarning, match="on the border") as caught:
        function(model, torch.ones(1, 784), size=60)
    assert [warning.filename for warning in caught] == [__file__]


def test_more_than_five_percent_on_the_border_is_too_much():
    with pytest.warns(UserWarning, match="1 of 3 images"):
        helpers._warn_of_border(torch.tensor([0.04, 0.05, 0.06]), 5.0)


def test_the_grid_has_300_points_on_each_side_up_to_5_unless_asked(smooth, x):
    mass, log_p = helpers.exact_posterior(smooth, x[:1]), helpers.exact_log_likelihood(smooth, x[:1])

    assert mass.shape == (1, 300, 300) and not mass.requires_grad and not log_p.requires_grad
    for function in (helpers.exact_log_likelihood, helpers.exact_posterior):
        parameters = inspect.signature(function).parameters
        assert (parameters["size"].default, parameters["half_width"].default) == (300, 5.0)


@pytest.mark.parametrize("shape", [(5, 3), (2,), (5, 2, 1)])
def test_points_outside_a_plane_are_refused(smooth, x, shape):
    with pytest.raises(ValueError, match=r"^z: expected shape \(N, 2\), received "):
        helpers.log_joint(smooth, x, torch.zeros(shape))


@pytest.mark.parametrize("function", [helpers.exact_log_likelihood, helpers.exact_posterior])
def test_a_latent_space_that_is_no_plane_is_refused(function, x):
    with pytest.raises(ValueError, match="expected latent_dim 2 for a sum over a plane, found 3"):
        function(helpers.VAE(latent_dim=3, hidden=(8,)), x, size=10)


@pytest.mark.parametrize("size, half_width", [(1, 5.0), (0, 5.0), (100, 0.0), (100, -1.0)])
def test_a_grid_without_extent_is_refused(smooth, x, size, half_width):
    with pytest.raises(ValueError, match="expected size >= 2 and half_width > 0, received"):
        helpers.exact_log_likelihood(smooth, x, size, half_width)


def test_images_of_the_wrong_kind_are_refused(smooth):
    with pytest.raises(ValueError, match=r"x: expected float32 images \(N, 784\)"):
        helpers.exact_log_likelihood(smooth, torch.zeros(2, 28, 28), size=10)
