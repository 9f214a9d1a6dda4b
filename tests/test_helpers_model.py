"""helpers, sections data, model and objective: against the files, plain NumPy and torch.distributions."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal
from torch.distributions import kl_divergence as kl_of_distributions
from torchvision.datasets import FashionMNIST

import helpers
import storage


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def splits():
    return {split: helpers.load_fashion_mnist(split) for split in ("train", "validation", "test")}


@pytest.fixture
def vae():
    return helpers.VAE(latent_dim=3, hidden=(16, 8))


def idx(name, header):
    """The bytes of one of the four files, after its header."""
    path = storage.raw(storage.fetch_fashion_mnist()) / name
    return np.frombuffer(path.read_bytes(), np.uint8, offset=header)


def numpy_mlp(sequential, x):
    """The forward pass in NumPy: linear layers with h * sigmoid(h) between them."""
    weights = [value.detach().double().numpy() for value in sequential.state_dict().values()]
    *inner, last = zip(weights[::2], weights[1::2])
    for weight, bias in inner:
        h = x @ weight.T + bias
        x = h / (1 + np.exp(-h))
    return x @ last[0].T + last[1]


def gradients_of_reconstruction(vae):
    x = torch.rand(32, 784)
    logits, _, _ = vae(x)
    helpers.reconstruction_loss(x, logits).mean().backward()
    return [parameter.grad for parameter in vae.encoder.parameters()]


# data


@pytest.mark.parametrize("split, size", [("train", 55_000), ("validation", 5_000), ("test", 10_000)])
def test_split_has_the_promised_size_types_and_range(splits, split, size):
    x, y = splits[split]

    assert (x.shape, x.dtype) == ((size, 784), torch.float32)
    assert (y.shape, y.dtype) == ((size,), torch.int64)
    assert (x.min(), x.max()) == (0, 1)
    assert y.unique().tolist() == list(range(10))


def test_the_splits_end_where_the_files_do():
    assert [part.stop for part in helpers.SPLITS.values()] == [55_000, 60_000, 10_000]


def test_train_then_validation_is_the_training_file_in_order(splits):
    x, y = (torch.cat(parts).numpy() for parts in zip(splits["train"], splits["validation"]))

    images = idx("train-images-idx3-ubyte", header=16).reshape(60_000, 784)
    assert np.array_equal(x, images / np.float32(255))
    assert np.array_equal(y, idx("train-labels-idx1-ubyte", header=8))


def test_test_split_is_the_test_file_in_order(splits):
    x, y = splits["test"]

    images = idx("t10k-images-idx3-ubyte", header=16).reshape(10_000, 784)
    assert np.array_equal(x, images / np.float32(255))
    assert np.array_equal(y, idx("t10k-labels-idx1-ubyte", header=8))


def test_every_class_has_the_published_number_of_images(splits):
    train, validation, test = (np.bincount(splits[split][1]) for split in ("train", "validation", "test"))

    assert (train + validation).tolist() == [6_000] * 10
    assert test.tolist() == [1_000] * 10


@pytest.mark.parametrize("train, size", [(True, 60_000), (False, 10_000)])
def test_open_data_set_is_torchvisions_own_with_images_as_bytes(train, size):
    dataset = helpers.open_fashion_mnist(train)

    assert type(dataset) is FashionMNIST and len(dataset) == size
    assert (dataset.data.shape, dataset.data.dtype) == ((size, 28, 28), torch.uint8)
    assert helpers.CLASSES == tuple(dataset.classes)


@pytest.mark.parametrize("split", ["valid", "Train", "", None, 0])
def test_unknown_split_is_refused_with_the_known_names(split):
    with pytest.raises(ValueError) as caught:
        helpers.load_fashion_mnist(split)

    assert str(caught.value) == f"split: expected one of train, validation, test, received {split!r}"


# model


def test_mlp_equals_a_numpy_forward_pass():
    net, x = helpers.mlp(5, 7, 6, 3).double(), torch.randn(4, 5).double()

    np.testing.assert_allclose(net(x).detach(), numpy_mlp(net, x.numpy()), rtol=1e-10)


def test_mlp_has_silu_between_its_linear_layers_and_none_at_the_end():
    kinds = [type(layer) for layer in helpers.mlp(5, 7, 6, 3)]

    assert kinds == [nn.Linear, nn.SiLU, nn.Linear, nn.SiLU, nn.Linear]


def test_vae_keeps_its_config():
    assert helpers.VAE().config == {"latent_dim": 2, "hidden": [256, 256, 256, 256]}
    assert helpers.VAE(3, (16, 8)).config == {"latent_dim": 3, "hidden": [16, 8]}


@pytest.mark.parametrize("latent_dim, hidden", [(2, (256, 256, 256, 256)), (3, (16, 8)), (1, (400,))])
def test_number_of_parameters_is_that_of_the_two_chains(latent_dim, hidden):
    encoder = [784, *hidden, 2 * latent_dim]
    decoder = [latent_dim, *hidden[::-1], 784]
    expected = sum((n_in + 1) * n_out for sizes in (encoder, decoder) for n_in, n_out in pairwise(sizes))

    assert sum(parameter.numel() for parameter in helpers.VAE(latent_dim, hidden).parameters()) == expected


@pytest.mark.parametrize("count", [1, 5])
def test_forward_returns_logits_mean_and_log_variance_of_each_image(vae, count):
    shapes = [tuple(value.shape) for value in vae(torch.rand(count, 784))]

    assert shapes == [(count, 784), (count, 3), (count, 3)]


def test_encode_equals_a_numpy_forward_pass(vae):
    x = torch.rand(4, 784).double()

    mu, logvar = vae.double().encode(x)

    expected_mu, h = np.split(numpy_mlp(vae.encoder, x.numpy()), 2, axis=1)
    np.testing.assert_allclose(mu.detach(), expected_mu, rtol=1e-10)
    np.testing.assert_allclose(logvar.exp().detach(), 1 / (1 + np.exp(-h)), rtol=1e-10)


def test_variance_is_positive_and_never_above_one(vae):
    nn.init.zeros_(vae.encoder[-1].weight)
    vae.encoder[-1].bias = nn.Parameter(torch.tensor([0.0, 0.0, 0.0, -60.0, 0.0, 60.0]))

    low, middle, high = vae.encode(torch.rand(1, 784))[1].exp()[0].tolist()

    assert 0 < low < 1e-20
    assert middle == pytest.approx(0.5)
    assert high == 1


def test_reparameterized_draws_have_the_mean_and_the_spread_of_the_posterior(vae):
    mu, sigma, n = torch.tensor([-2.0, 0.0, 3.0]), torch.tensor([0.1, 1.0, 0.5]), 100_000

    z = vae.reparameterize(mu.expand(n, 3), 2 * sigma.log().expand(n, 3))

    assert ((z.mean(dim=0) - mu).abs() < 4 * sigma / math.sqrt(n)).all()  # four standard errors of the mean
    assert ((z.std(dim=0) - sigma).abs() < 4 * sigma / math.sqrt(2 * n)).all()  # and of the standard deviation


def test_reparameterized_draws_are_normal_and_independent(vae):
    n = 100_000

    z = vae.reparameterize(torch.zeros(n, 3), torch.zeros(n, 3))

    quantiles = torch.tensor([0.025, 0.25, 0.5, 0.75, 0.975])
    shares = (z[:, 0, None] < Normal(0, 1).icdf(quantiles)).double().mean(dim=0)
    assert ((shares - quantiles).abs() < 4 * (quantiles * (1 - quantiles) / n).sqrt()).all()
    assert ((z.double().T.corrcoef() - torch.eye(3)).abs() < 4 / math.sqrt(n)).all()


def test_z_moves_with_mu_and_with_half_of_sigma_eps(vae):
    mu, logvar = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)

    z = vae.reparameterize(mu, logvar)

    slope_mu, slope_logvar = torch.autograd.grad(z.sum(), [mu, logvar])
    torch.testing.assert_close(slope_mu, torch.ones(5, 3))
    torch.testing.assert_close(slope_logvar, (z - mu) / 2)  # z = mu + exp(logvar / 2) * eps


def test_every_encoder_weight_has_a_gradient_from_the_reconstruction_alone(vae):
    assert all(gradient.abs().sum() > 0 for gradient in gradients_of_reconstruction(vae))


def test_reconstruction_gradient_reaches_both_mean_and_variance(vae):
    *_, bias = gradients_of_reconstruction(vae)

    assert (bias != 0).tolist() == [True] * 6  # three means, three log-variances


def test_forward_draws_a_new_z_for_each_image_and_each_time(vae):
    x = torch.rand(1, 784).expand(2, 784)

    (first, second), (third, _) = vae(x)[0], vae(x)[0]

    assert not torch.equal(first, second)
    assert not torch.equal(first, third)


def test_same_seed_gives_the_same_weights_and_draws():
    def run(seed):
        torch.manual_seed(seed)
        return helpers.VAE(hidden=(8,))(torch.rand(3, 784))[0]

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_decoding_a_batch_equals_decoding_one_by_one(vae):
    z = torch.randn(6, 3).double()

    torch.testing.assert_close(vae.double().decode(z), torch.cat([vae.decode(point[None]) for point in z]))


def test_decode_equals_a_numpy_forward_pass(vae):
    z = torch.randn(6, 3).double()

    logits = vae.double().decode(z).detach()
    np.testing.assert_allclose(logits, numpy_mlp(vae.decoder, z.numpy()), rtol=1e-10, atol=1e-12)


def test_forward_decodes_a_draw_from_what_it_encodes(vae):
    x = torch.rand(4, 784)

    torch.manual_seed(1)
    logits, mu, logvar = vae(x)

    torch.manual_seed(1)
    torch.testing.assert_close(logits, vae.decode(vae.reparameterize(*vae.encode(x))))
    torch.testing.assert_close((mu, logvar), vae.encode(x))


# objective


def numpy_cross_entropy(x, p):
    x, p = x.double().numpy(), p.double().numpy()
    return -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1)


def test_cross_entropy_is_minus_the_bernoulli_log_probability():
    x, p = torch.rand(4, 784).round(), torch.rand(4, 784).clamp(0.01, 0.99)

    expected = -Bernoulli(probs=p).log_prob(x).sum(dim=1)
    torch.testing.assert_close(helpers.cross_entropy(x, p), expected)


def test_cross_entropy_of_grey_pixels_equals_numpys():
    x, p = torch.rand(4, 784), torch.rand(4, 784).clamp(0.01, 0.99)

    np.testing.assert_allclose(helpers.cross_entropy(x, p), numpy_cross_entropy(x, p), rtol=1e-5)


def test_cross_entropy_takes_one_prediction_for_all_images():
    x, p = torch.rand(4, 784), torch.rand(784).clamp(0.01, 0.99)

    np.testing.assert_allclose(helpers.cross_entropy(x, p), numpy_cross_entropy(x, p[None]), rtol=1e-5)


def test_best_single_prediction_is_the_mean_image():
    x = torch.rand(50, 784)
    mean, step = x.mean(dim=0), 0.1 * torch.randn(784)

    least = helpers.cross_entropy(x, mean).mean()

    for p in (mean + step, mean - step, torch.full((784,), 0.5)):
        assert helpers.cross_entropy(x, p.clamp(0.01, 0.99)).mean() > least


def test_certain_and_right_prediction_costs_nothing():
    x = torch.rand(4, 784).round()

    assert helpers.cross_entropy(x, x).tolist() == [0] * 4


def test_reconstruction_loss_is_minus_the_bernoulli_log_probability():
    x, logits = torch.rand(4, 784).round(), 3 * torch.randn(4, 784)

    expected = -Bernoulli(logits=logits).log_prob(x).sum(dim=1)
    torch.testing.assert_close(helpers.reconstruction_loss(x, logits), expected)


def test_reconstruction_loss_of_grey_pixels_is_the_cross_entropy_of_the_sigmoid():
    x, logits = torch.rand(4, 784), 3 * torch.randn(4, 784)

    expected = numpy_cross_entropy(x, torch.sigmoid(logits.double()))
    np.testing.assert_allclose(helpers.reconstruction_loss(x, logits), expected, rtol=1e-5)


def test_slope_of_the_reconstruction_loss_is_sigmoid_minus_pixel():
    x, logits = torch.rand(4, 784), (3 * torch.randn(4, 784)).requires_grad_()

    helpers.reconstruction_loss(x, logits).sum().backward()

    torch.testing.assert_close(logits.grad, torch.sigmoid(logits.detach()) - x)


EXTREMES = [(0, 80, 80), (1, -80, 80), (0, -80, 0), (1, 80, 0), (0.5, 80, 40), (0, 1000, 1000), (1, -1000, 1000)]


@pytest.mark.parametrize("pixel, logit, nats", [*EXTREMES, (0.3, 0, math.log(2))])
def test_reconstruction_loss_and_its_slope_are_exact_at_extreme_logits_and_at_zero(pixel, logit, nats):
    logits = torch.full((1, 784), float(logit), requires_grad=True)

    recon = helpers.reconstruction_loss(torch.full((1, 784), float(pixel)), logits)
    recon.sum().backward()

    assert recon.item() == pytest.approx(784 * nats)
    assert logits.grad[0, 0] == pytest.approx((1 + math.tanh(logit / 2)) / 2 - pixel)  # sigmoid(logit) - pixel


def test_kl_equals_that_of_torch_distributions():
    mu, logvar = 2 * torch.randn(50, 3), torch.randn(50, 3)

    expected = kl_of_distributions(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(helpers.kl_divergence(mu, logvar), expected)


def test_kl_equals_the_closed_form_in_numpy():
    mu, logvar = 2 * torch.randn(50, 3), torch.randn(50, 3)

    m, variance = mu.double().numpy(), np.exp(logvar.double().numpy())
    expected = ((variance + m**2 - 1) / 2 - np.log(np.sqrt(variance))).sum(axis=1)
    np.testing.assert_allclose(helpers.kl_divergence(mu, logvar), expected, rtol=1e-4)


def test_kl_of_each_dimension_is_that_of_torch_distributions_and_they_add_up():
    mu, logvar = 2 * torch.randn(50, 3), torch.randn(50, 3)

    each = helpers.kl_per_dimension(mu, logvar)

    torch.testing.assert_close(each, kl_of_distributions(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)))
    torch.testing.assert_close(each.sum(dim=1), helpers.kl_divergence(mu, logvar))


def test_kl_equals_its_monte_carlo_estimate_within_four_standard_errors():
    mu, logvar, n = torch.tensor([[1.0, -0.5]]), torch.tensor([[-2.0, 0.3]]), 100_000
    posterior = Normal(mu, (logvar / 2).exp())

    z = posterior.sample((n,))
    terms = (posterior.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(dim=2)

    assert abs(helpers.kl_divergence(mu, logvar) - terms.mean()) < 4 * terms.std() / math.sqrt(n)


def test_kl_is_zero_when_posterior_is_prior_and_positive_otherwise():
    zero, step = torch.zeros(1, 2), torch.tensor([[0.0, 0.1]])

    assert helpers.kl_divergence(zero, zero) == 0
    for mu, logvar in [(step, zero), (-step, zero), (zero, step), (zero, -step)]:
        assert helpers.kl_divergence(mu, logvar) > 0


@pytest.mark.parametrize("count", [1, 7])
def test_each_term_is_one_number_per_image(count):
    assert helpers.cross_entropy(torch.rand(count, 784), torch.full((784,), 0.5)).shape == (count,)
    assert helpers.reconstruction_loss(torch.rand(count, 784), torch.randn(count, 784)).shape == (count,)
    assert helpers.kl_divergence(torch.randn(count, 2), torch.randn(count, 2)).shape == (count,)


PAIRS = {
    "reconstruction_loss": "x and logits",
    "kl_divergence": "mu and logvar",
    "kl_per_dimension": "mu and logvar",
}


@pytest.mark.parametrize("a, b", [((4, 784), (3, 784)), ((4, 784), (4, 783)), ((4, 28, 28), (4, 28, 28)), ((9,), (9,))])
@pytest.mark.parametrize("term", PAIRS)
def test_other_shapes_are_refused_with_both_of_them(term, a, b):
    with pytest.raises(ValueError) as caught:
        getattr(helpers, term)(torch.zeros(a), torch.zeros(b))

    assert str(caught.value) == f"{PAIRS[term]}: expected one shape (B, n), received {a} and {b}"


@pytest.mark.parametrize("p", [(3, 784), (4, 783), (1, 784), (783,)])
def test_predictions_of_another_shape_are_refused(p):
    with pytest.raises(ValueError, match=r"^x and p: expected one shape \(B, n\), received \(4, 784\) and "):
        helpers.cross_entropy(torch.zeros(4, 784), torch.zeros(p))


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="expected one shape"):
        helpers.reconstruction_loss(torch.rand(1, 784), torch.randn(4, 784))
    with pytest.raises(ValueError, match="expected one shape"):
        helpers.kl_divergence(torch.randn(4, 2), torch.randn(4, 1))
