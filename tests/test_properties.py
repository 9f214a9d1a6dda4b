"""Properties of the public functions for any shape and number: what they return, and what they refuse."""

import math
import warnings

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

import helpers

settings.register_profile("series", deadline=None, derandomize=True, max_examples=20, database=None)
settings.load_profile("series")

COUNTS = st.integers(1, 5)
SEEDS = st.integers(0, 1000)
NUMBERS = st.floats(-5, 5, width=32)
PAIRS = st.tuples(NUMBERS, NUMBERS)
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
HIDDEN = st.lists(st.integers(1, 9), max_size=3).map(tuple)
TYPES = st.sampled_from([torch.float16, torch.float64, torch.uint8, torch.int64, torch.bool])


def images(count, seed=0):
    return torch.rand(count, 784, generator=torch.Generator().manual_seed(seed))


def refused(function, *arguments):
    """Return the message with which the arguments are refused."""
    with pytest.raises(ValueError) as caught:
        function(*arguments)
    return str(caught.value)


# model


@given(COUNTS, st.integers(1, 4), HIDDEN, SEEDS)
def test_model_of_any_size_maps_images_to_logits_mean_and_log_variance(count, latent_dim, hidden, seed):
    model = helpers.VAE(latent_dim, hidden)

    logits, mu, logvar = model(images(count, seed))

    assert (logits.shape, mu.shape, logvar.shape) == ((count, 784), (count, latent_dim), (count, latent_dim))
    assert logits.isfinite().all() and (logvar <= 0).all()
    assert helpers.VAE(**model.config).load_state_dict(model.state_dict())


@given(PAIRS, PAIRS, SEEDS)
def test_draw_is_the_mean_plus_sigma_times_the_generators_noise(mean, log_variance, seed):
    mu, logvar, model = torch.tensor([mean]), torch.tensor([log_variance]), helpers.VAE(hidden=())

    torch.manual_seed(seed)
    z = model.reparameterize(mu, logvar)

    torch.manual_seed(seed)
    eps = torch.randn(1, 2)
    torch.testing.assert_close(z, mu + logvar.exp().sqrt() * eps)


# objective


@given(COUNTS, SEEDS, st.floats(0.1, 50))
def test_no_logits_beat_those_of_the_image_itself(count, seed, scale):
    x = images(count, seed)
    logits = scale * torch.randn(count, 784, generator=torch.Generator().manual_seed(seed))

    recon, floor = helpers.reconstruction_loss(x, logits), helpers.reconstruction_loss(x, torch.logit(x))

    assert recon.shape == (count,) and (recon >= floor - 1e-3).all() and (floor > 0).all()


@given(st.lists(st.tuples(PAIRS, PAIRS), min_size=1, max_size=5))
def test_kl_is_never_negative_and_that_of_torch(rows):
    mu, logvar = torch.tensor(rows).unbind(dim=1)

    kl = helpers.kl_divergence(mu, logvar)

    expected = torch.distributions.kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl, expected, rtol=1e-4, atol=1e-5)
    assert (kl >= -1e-5).all()


@given(SHAPES, SHAPES)
def test_two_shapes_are_taken_only_when_they_are_one_matrix(first, second):
    assume(first != second or len(first) != 2)

    for function in (helpers.reconstruction_loss, helpers.kl_divergence):
        assert f"received {first} and {second}" in refused(function, torch.zeros(first), torch.zeros(second))


# images


@given(SHAPES, TYPES)
def test_only_float32_images_of_784_pixels_are_taken(shape, dtype):
    model = helpers.VAE(hidden=())

    for x in (torch.zeros(shape), torch.zeros(2, 784, dtype=dtype)):
        received = f"x: expected float32 images (N, 784) in [0, 1], received {x.dtype} {tuple(x.shape)}; "
        for function in (helpers.evaluate, helpers.encode, helpers.exact_log_likelihood):
            assert refused(function, model, x).startswith(received)


@given(st.integers(0, 783), st.one_of(st.floats(1.001, 300), st.floats(-300, -0.001), st.just(math.nan)))
def test_one_pixel_outside_the_range_is_enough(position, value):
    x = images(3)
    x[1, position] = value

    assert "expected pixels in [0, 1], received" in refused(helpers.encode, helpers.VAE(hidden=()), x)


# latent space


@given(COUNTS, st.integers(1, 4), st.integers(1, 4))
def test_decode_takes_points_of_the_models_own_dimension_only(count, latent_dim, columns):
    model, z = helpers.VAE(latent_dim, ()), torch.randn(count, columns)

    if columns != latent_dim:
        assert f"expected shape (N, {latent_dim}), received ({count}, {columns})" in refused(helpers.decode, model, z)
    else:
        x_hat = helpers.decode(model, z)
        assert x_hat.shape == (count, 784) and (x_hat >= 0).all() and (x_hat <= 1).all()


@given(COUNTS, st.integers(1, 3), st.integers(1, 6))
def test_batches_change_nothing(count, latent_dim, batch_size):
    model, x = helpers.VAE(latent_dim, (8,)), images(count)

    torch.testing.assert_close(helpers.encode(model, x, batch_size), helpers.encode(model, x))
    assert [value.shape for value in helpers.evaluate(model, x, batch_size)] == [(count,), (count,)]


@given(st.lists(st.tuples(PAIRS, PAIRS), min_size=1, max_size=4), st.integers(1, 6))
def test_aggregate_posterior_is_the_mean_density_at_each_point(rows, size):
    mu, logvar = torch.tensor(rows).unbind(dim=1)
    axis = torch.linspace(-2, 3, size)

    q = helpers.aggregate_posterior(mu, logvar, axis)

    expected = torch.stack([torch.stack([density(mu, logvar, (z1, z2)) for z1 in axis]) for z2 in axis])
    torch.testing.assert_close(q, expected, rtol=1e-3, atol=1e-6)


def density(mu, logvar, z):
    return Normal(mu, (logvar / 2).exp()).log_prob(torch.tensor(z)).sum(dim=1).exp().mean()


# exact inference


@given(COUNTS, st.integers(2, 12), st.floats(0.5, 9))
def test_posterior_on_any_grid_is_a_distribution_over_its_cells(count, size, half_width):
    model, x = helpers.VAE(hidden=(4,)), images(count)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few points leave mass on the border
        mass = helpers.exact_posterior(model, x, size, half_width)
    assert mass.shape == (count, size, size) and (mass >= 0).all()
    torch.testing.assert_close(mass.sum(dim=(1, 2)), torch.ones(count))


@given(st.integers(-3, 1), st.floats(-9, 0))
def test_grid_without_points_or_width_is_refused(size, half_width):
    model, x = helpers.VAE(hidden=()), images(1)

    for function in (helpers.exact_log_likelihood, helpers.exact_posterior):
        assert f"received {size} and 5.0" in refused(function, model, x, size, 5.0)
        assert f"received 100 and {half_width}" in refused(function, model, x, 100, half_width)
