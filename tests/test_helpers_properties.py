"""helpers, every section, for any shape and number: what its functions return, and what they refuse."""

import json
import math
import re

import numpy as np
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
AXES = st.builds(lambda low, step, size: low + step * torch.arange(size), NUMBERS, st.floats(0.1, 3), st.integers(2, 9))


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


@given(COUNTS, SEEDS, st.floats(0.1, 5))
def test_cross_entropy_and_reconstruction_loss_agree_on_every_image(count, seed, scale):
    x = images(count, seed).double()
    logits = scale * torch.randn(count, 784, generator=torch.Generator().manual_seed(seed)).double()

    recon = helpers.reconstruction_loss(x, logits)

    torch.testing.assert_close(helpers.cross_entropy(x, torch.sigmoid(logits)), recon)


@given(st.lists(st.tuples(PAIRS, PAIRS), min_size=1, max_size=5))
def test_kl_is_never_negative_and_that_of_torch(rows):
    mu, logvar = torch.tensor(rows).unbind(dim=1)

    kl = helpers.kl_divergence(mu, logvar)

    expected = torch.distributions.kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl, expected, rtol=1e-4, atol=1e-5)
    assert (kl >= -1e-5).all() and (helpers.kl_per_dimension(mu, logvar) >= -1e-5).all()


@given(SHAPES, SHAPES)
def test_two_shapes_are_taken_only_when_they_are_one_matrix(first, second):
    assume(first != second or len(first) != 2)

    for function in (helpers.reconstruction_loss, helpers.kl_divergence, helpers.kl_per_dimension):
        assert f"received {first} and {second}" in refused(function, torch.zeros(first), torch.zeros(second))


# images


@given(SHAPES, TYPES)
def test_only_float32_images_of_784_pixels_are_taken(shape, dtype):
    model = helpers.VAE(hidden=())

    for x in (torch.zeros(shape), torch.zeros(2, 784, dtype=dtype)):
        received = f"x: expected float32 images (N, 784) in [0, 1], received {x.dtype} {tuple(x.shape)}; "
        for function in (helpers.evaluate, helpers.encode):
            assert refused(function, model, x).startswith(received)


@given(st.integers(0, 783), st.one_of(st.floats(1.001, 300), st.floats(-300, -0.001), st.just(math.nan)))
def test_one_pixel_outside_the_range_is_enough(position, value):
    x = images(3)
    x[1, position] = value

    assert "expected pixels in [0, 1], received" in refused(helpers.encode, helpers.VAE(hidden=()), x)


# claims


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """A function that makes a claim, records what it prints, makes it again, and returns both lines."""
    path = tmp_path_factory.mktemp("claims") / "claims.json"

    def claim(value, tol):
        lines = []
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("VAE_CLAIM_LOG", raising=False)
            patch.setattr(helpers, "CLAIMS", path)
            patch.setattr("builtins.print", lines.append)
            path.unlink(missing_ok=True)
            helpers.claim("a", value, "nats", tol)
            recorded = float(lines[0].split()[2].replace(",", ""))
            path.write_text(json.dumps({"a": {"value": recorded, "unit": "nats", "tol": tol, "effect": False}}))
            helpers.claim("a", value, "nats", tol)
        return lines

    return claim


@given(st.floats(-1e15, 1e15), st.floats(1e-9, 1e9))
def test_printed_number_is_the_measured_one_to_a_twentieth_of_its_tol_and_plain(printed, value, tol):
    free, held = printed(value, tol)

    mark, _, number, unit = free.split()
    assert (mark, unit) == ("·", "nats") and re.fullmatch(r"-?\d{1,3}(,\d{3})*(\.\d+)?", number, re.ASCII)
    assert abs(float(number.replace(",", "")) - value) <= max(tol / 20, 0.5 * (tol >= 10)) + 1e-15 * abs(value)
    assert not (number.startswith("-") and float(number.replace(",", "")) == 0)
    assert held == f"✓ a: {number} nats"  # what was recorded as printed holds for the same measurement


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

    torch.testing.assert_close(helpers.encode(model, x, batch_size), helpers.encode(model, x), rtol=0, atol=2e-3)
    assert [value.shape for value in helpers.evaluate(model, x, batch_size)] == [(count,), (count,)]


@given(AXES, AXES)
def test_plane_grid_is_numpys_for_any_two_axes(z1, z2):
    expected = np.stack(np.meshgrid(z1, z2), axis=-1).reshape(-1, 2)

    np.testing.assert_array_equal(helpers.plane_grid(z1, z2), expected)


@given(AXES)
def test_cell_of_and_plane_grid_are_each_others_inverse_on_any_axis(axis):
    grid = helpers.plane_grid(axis)

    assert torch.equal(helpers.cell_of(grid, axis), torch.arange(len(grid)))


@given(st.lists(st.tuples(PAIRS, PAIRS), min_size=1, max_size=4), st.integers(1, 6))
def test_aggregate_posterior_is_the_mean_density_at_each_point(rows, size):
    mu, logvar = torch.tensor(rows).unbind(dim=1)
    axis = torch.linspace(-2, 3, size)

    q = helpers.aggregate_posterior(mu, logvar, axis)

    expected = torch.stack([torch.stack([density(mu, logvar, (z1, z2)) for z1 in axis]) for z2 in axis])
    torch.testing.assert_close(q, expected, rtol=0.02, atol=1e-6)


def density(mu, logvar, z):
    return Normal(mu, (logvar / 2).exp()).log_prob(torch.tensor(z)).sum(dim=1).exp().mean()
