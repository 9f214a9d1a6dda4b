"""helpers, section latent space: codes and garments, and grids on the plane."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

import helpers


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def vae():
    return helpers.VAE(hidden=(8,))


@pytest.fixture
def posteriors():
    return torch.randn(40, 2), -2 * torch.rand(40, 2) - 1


# codes and garments


def test_encode_returns_mean_and_log_variance_of_each_image_in_order(vae):
    vae.encoder[0].weight.data *= 10  # an encoder that tells five greys well apart
    x = torch.linspace(0, 1, 5)[:, None].expand(5, 784)

    mu, logvar = helpers.encode(vae, x, batch_size=2)

    one_by_one = [vae.double().encode(image[None]) for image in x.double()]
    expected = [torch.cat(values).detach().float() for values in zip(*one_by_one)]
    assert all(values.diff(dim=0).abs().max(dim=1).values.min() > 0.05 for values in expected)
    torch.testing.assert_close([mu, logvar], expected, rtol=0, atol=0.02)


def test_decode_is_the_sigmoid_of_the_logits_of_each_point_in_order(vae):
    z = torch.linspace(-3, 3, 10).view(5, 2)

    x_hat = helpers.decode(vae, z)

    logits = np.concatenate([vae.double().decode(point[None]).detach().numpy() for point in z.double()])
    np.testing.assert_allclose(x_hat, 1 / (1 + np.exp(-logits)), rtol=0, atol=5e-3)


def test_encode_and_decode_keep_no_graph_and_leave_the_model_in_eval_mode(vae):
    for use, values in [(helpers.encode, torch.rand(3, 784)), (helpers.decode, torch.rand(3, 2))]:
        results = use(vae.train(), values)
        assert not vae.training
        assert not any(result.requires_grad or result.device.type != "cpu" for result in results)


def test_decode_takes_points_of_other_number_types(vae):
    for z in (torch.tensor([[1, -2]]), torch.tensor([[1.0, -2.0]], dtype=torch.float64)):
        assert torch.equal(helpers.decode(vae, z), helpers.decode(vae, torch.tensor([[1.0, -2.0]])))


@pytest.mark.parametrize("shape", [(2,), (5, 3), (5, 2, 1), (5, 784)])
def test_decode_refuses_points_of_another_shape(vae, shape):
    with pytest.raises(ValueError) as caught:
        helpers.decode(vae, torch.zeros(shape))

    assert str(caught.value) == f"z: expected shape (N, 2), received {shape}; one point is z[None]"


# grids


def test_plane_grid_goes_row_by_row_with_z1_along_a_row():
    points = helpers.plane_grid(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([10.0, 20.0]))

    assert points.tolist() == [[0, 10], [1, 10], [2, 10], [0, 20], [1, 20], [2, 20]]


def test_plane_grid_of_one_axis_is_the_square_that_numpy_makes_of_it():
    axis = torch.linspace(-3, 3, 5)

    expected = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(25, 2)
    np.testing.assert_array_equal(helpers.plane_grid(axis), expected)


def test_cell_of_each_point_of_the_grid_is_its_own():
    axis = torch.linspace(-5, 5, 300)

    assert torch.equal(helpers.cell_of(helpers.plane_grid(axis), axis), torch.arange(300**2))


@pytest.mark.parametrize("low, high, size", [(-4, 4, 9), (-1, 3, 6), (0, 10, 2)])
def test_cell_of_any_point_is_that_of_the_nearest_point_of_the_grid(low, high, size):
    axis, z = torch.linspace(low, high, size), 6 * torch.randn(500, 2)

    cells = helpers.cell_of(z, axis)

    assert torch.equal(
        cells, torch.cdist(z, helpers.plane_grid(axis), compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
    )


@pytest.mark.parametrize("far", [6.0, 1e6, 1e30, math.inf])
def test_cell_of_a_point_beyond_the_rim_is_the_last_in_its_direction(far):
    axis = torch.linspace(-5, 5, 11)

    cells = helpers.cell_of(torch.tensor([[far, 0.0], [-far, 0.0], [0.0, far], [0.0, -far], [far, far]]), axis)

    right, left, top, bottom, corner = helpers.plane_grid(axis)[cells].tolist()
    assert (right, left, top, bottom, corner) == ([5, 0], [-5, 0], [0, 5], [0, -5], [5, 5])


@pytest.mark.parametrize("shape", [(2,), (5, 3), (5, 2, 1)])
def test_cell_of_other_than_points_of_a_plane_is_refused(shape):
    with pytest.raises(ValueError) as caught:
        helpers.cell_of(torch.zeros(shape), torch.linspace(-5, 5, 11))

    assert str(caught.value) == f"z: expected shape (N, 2), received {shape}"


# the aggregate posterior


def test_aggregate_posterior_is_the_mean_of_the_normal_densities(posteriors):
    mu, logvar = posteriors
    axis = torch.linspace(-3, 3, 7)

    q = helpers.aggregate_posterior(mu, logvar, axis)

    density = Independent(Normal(mu, (logvar / 2).exp()), 1)
    at = helpers.plane_grid(axis).view(7, 7, 1, 2)  # row i is z2, column j is z1
    torch.testing.assert_close(q, density.log_prob(at).exp().mean(dim=2), rtol=0.02, atol=1e-4)


def test_aggregate_posterior_has_z2_in_its_rows_and_z1_in_its_columns():
    axis = torch.linspace(-3, 3, 7)

    q = helpers.aggregate_posterior(torch.tensor([[2.0, -1.0]]), torch.full((1, 2), -3.0), axis)

    row, column = divmod(q.argmax().item(), 7)
    assert (axis[column], axis[row]) == (2, -1)


def test_aggregate_posterior_of_more_than_one_batch_is_the_mean_of_all(posteriors):
    mu, logvar = (values[:1].expand(5001, 2) for values in posteriors)
    axis = torch.linspace(-3, 3, 5)

    one = helpers.aggregate_posterior(mu[:1], logvar[:1], axis)

    torch.testing.assert_close(helpers.aggregate_posterior(mu, logvar, axis), one, rtol=0.02, atol=1e-4)


def test_aggregate_posterior_has_mass_one(posteriors):
    axis = torch.linspace(-8, 8, 321)

    mass = helpers.aggregate_posterior(*posteriors, axis).sum() * (axis[1] - axis[0]) ** 2

    assert mass.item() == pytest.approx(1, abs=1e-3)


def test_aggregate_posterior_in_other_than_two_dimensions_is_refused():
    with pytest.raises(ValueError, match=r"^mu: expected shape \(N, 2\), received \(5, 3\)"):
        helpers.aggregate_posterior(torch.zeros(5, 3), torch.zeros(5, 3), torch.ones(2))
    with pytest.raises(ValueError, match=r"^mu and logvar: expected one shape .* received \(5, 2\) and \(4, 2\)"):
        helpers.aggregate_posterior(torch.zeros(5, 2), torch.zeros(4, 2), torch.ones(2))
