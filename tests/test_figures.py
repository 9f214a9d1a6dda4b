"""Tests of the claims, the latent-space functions and the figures in helpers.py."""

import math
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

import helpers


@pytest.fixture(autouse=True)
def clean_figures():
    """No figure and no setting outlives a test."""
    plt.close("all")
    with plt.rc_context():
        yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.figure().add_subplot()


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return helpers.VAE(hidden=(8,))


@pytest.fixture
def points():
    """Five points of each of the classes 0, 3 and 9, and their labels."""
    torch.manual_seed(0)
    return torch.randn(15, 2), torch.tensor([0, 3, 9]).repeat(5)


def printed(capsys, *arguments, **options):
    helpers.claim(*arguments, **options)
    return capsys.readouterr().out


# claims


@pytest.mark.parametrize("value", [254.1, 254.6, 253.6, np.float32(254.3), torch.tensor(253.9)])
def test_claim_prints_the_expected_number_for_every_value_within_the_tolerance(capsys, value):
    assert printed(capsys, "test loss", value, 254.1, tol=0.5, unit="nats") == "test loss: 254.1 nats (± 0.5)\n"


@pytest.mark.parametrize(
    "value, shown",
    [
        (254.7, "254.7"),
        (253.5, "253.5"),
        (-254.1, "-254.1"),
        (55_000.4, "55,000.4"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (np.float64(254.7), "254.7"),
        (torch.tensor(math.nan), "nan"),
    ],
)
def test_claim_prints_the_real_number_outside_the_tolerance(capsys, value, shown):
    line = printed(capsys, "test loss", value, 254.1, tol=0.5, unit="nats")

    assert line == f"test loss: {shown} nats, but the text was written for 254.1 nats (± 0.5)\n"


def test_claim_without_tolerance_holds_for_the_very_number_only(capsys):
    assert printed(capsys, "images", 55_000, 55_000) == "images: 55,000\n"
    assert printed(capsys, "images", 55_001, 55_000) == "images: 55,001, but the text was written for 55,000\n"


def test_claim_separates_thousands_in_the_tolerance_too(capsys):
    assert printed(capsys, "steps", 12_345, 12_000, tol=1_500) == "steps: 12,000 (± 1,500)\n"


def test_claim_never_prints_the_line_of_the_text_for_a_number_off_by_a_little(capsys):
    right = printed(capsys, "loss", 0.1, 0.1)

    assert printed(capsys, "loss", 0.1 + 1e-12, 0.1) != right


# latent space


def test_encode_returns_mean_and_log_variance_of_each_image_in_order(vae):
    x = torch.rand(25, 784)

    mu, logvar = helpers.encode(vae, x, batch_size=10)

    one_by_one = [vae.encode(image[None]) for image in x]
    torch.testing.assert_close(mu, torch.cat([mu for mu, _ in one_by_one]).detach())
    torch.testing.assert_close(logvar, torch.cat([logvar for _, logvar in one_by_one]).detach())


def test_decode_is_the_sigmoid_of_the_logits_of_each_point_in_order(vae):
    z = torch.randn(5, 2)

    logits = np.concatenate([vae.decode(point[None]).detach().numpy() for point in z])
    np.testing.assert_allclose(helpers.decode(vae, z), 1 / (1 + np.exp(-logits)), rtol=1e-5)


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


def test_best_device_is_cuda_or_the_cpu_and_can_hold_a_tensor():
    device = helpers.best_device()

    assert torch.ones(2, device=device).sum().item() == 2
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")


# style and files


def test_use_style_sets_the_class_colours_and_the_layout():
    helpers.use_style()

    figure, ax = plt.subplots()
    lines = [ax.plot([0, 1])[0].get_color() for _ in range(10)]
    assert lines == list(helpers.COLORS)
    assert not ax.spines["top"].get_visible() and not ax.spines["right"].get_visible()
    assert (figure.dpi, type(figure.get_layout_engine()).__name__) == (100, "ConstrainedLayoutEngine")


def test_the_ten_classes_of_the_dataset_have_ten_different_colours():
    assert (len(helpers.CLASSES), helpers.CLASSES[0], helpers.CLASSES[9]) == (10, "T-shirt/top", "Ankle boot")
    assert len({to_rgba(color) for color in helpers.COLORS}) == 10


def test_save_figure_writes_a_png_of_150_dots_per_inch_to_images(tmp_path, monkeypatch):
    monkeypatch.setattr(helpers, "OUTPUT", tmp_path / "new")

    for width in (3, 4):  # the second one replaces the first
        helpers.save_figure(plt.figure(figsize=(width, 2)), "plot.png")

    assert [path.relative_to(tmp_path / "new").as_posix() for path in tmp_path.rglob("*.*")] == ["images/plot.png"]
    assert plt.imread(tmp_path / "new" / "images" / "plot.png").shape[:2] == (300, 600)


# grids of images


def test_show_images_puts_the_images_row_by_row_with_a_border_of_one_pixel(ax):
    images = torch.rand(5, 784)

    grid = np.asarray(helpers.show_images(images, columns=3, ax=ax).get_array())

    assert grid.shape == (2 * 30, 3 * 30)
    for i, image in enumerate(images):
        row, column = divmod(i, 3)
        cell = grid[30 * row : 30 * row + 30, 30 * column : 30 * column + 30]
        assert np.array_equal(cell, np.pad(image.view(28, 28), 1))


def test_show_images_leaves_missing_images_blank(ax):
    grid = helpers.show_images(torch.ones(4, 784), columns=3, ax=ax).get_array()

    assert (grid[30:, 30:] == 0).all()
    assert grid.sum() == 4 * 784


def test_show_images_draws_ink_dark_and_the_first_row_on_top(ax):
    picture = helpers.show_images(torch.rand(4, 784), columns=2, ax=ax)

    assert picture.axes is ax
    assert picture.to_rgba(0.0) == to_rgba("white") and picture.to_rgba(1.0) == to_rgba("black")
    assert ax.yaxis_inverted() and not ax.xaxis_inverted()


@pytest.mark.parametrize("vmax", [1, 0.4])
def test_show_images_has_fixed_grey_levels(ax, vmax):
    picture = helpers.show_images(torch.full((4, 784), 0.2), ax=ax, vmax=vmax)

    assert picture.get_clim() == (0, vmax)


def test_show_images_names_its_rows_and_has_no_other_marks(ax):
    helpers.show_images(torch.rand(6, 784), columns=3, ax=ax, rows=("before", "after"))

    assert [label.get_text() for label in ax.get_yticklabels()] == ["before", "after"]
    assert list(ax.get_yticks()) == [15, 45]  # the middle of each row
    assert list(ax.get_xticks()) == []
    assert not any(spine.get_visible() for spine in ax.spines.values())


def test_show_images_takes_images_that_require_a_gradient(ax):
    helpers.show_images(torch.rand(4, 784, requires_grad=True), ax=ax)

    assert len(ax.images) == 1


@pytest.mark.parametrize("shape", [(784,), (4, 28, 28), (4, 1, 28, 28), (4, 783)])
def test_show_images_refuses_another_shape(ax, shape):
    with pytest.raises(ValueError) as caught:
        helpers.show_images(torch.zeros(shape), ax=ax)

    assert str(caught.value) == f"images: expected shape (N, 784), received {shape}"


# the latent plane


def test_show_latent_draws_every_point_where_it_is(ax, points):
    z, y = points

    drawn = helpers.show_latent(z, y, ax=ax)

    assert drawn.axes is ax and ax.collections[0] is drawn
    np.testing.assert_allclose(drawn.get_offsets(), z)


def test_show_latent_gives_each_class_its_fixed_colour(ax, points):
    z, y = points

    colors = helpers.show_latent(z, y, ax=ax).get_facecolors()

    expected = [to_rgba(helpers.COLORS[label])[:3] for label in y.tolist()]
    np.testing.assert_allclose(colors[:, :3], expected)


def test_show_latent_without_labels_is_grey_and_has_no_names(ax, points):
    drawn = helpers.show_latent(points[0], ax=ax)

    red, green, blue, _ = drawn.get_facecolors().T
    assert (red == green).all() and (green == blue).all() and (red < 0.5).all()
    assert len(ax.texts) == 0


def test_show_latent_writes_the_name_of_each_class_on_its_median(ax, points):
    z, y = points
    z = z + torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0]]).repeat(5, 1)  # far apart: no name covers another one
    helpers.show_latent(z, y, ax=ax)

    written = {text.get_text(): text for text in ax.texts}
    assert set(written) == {"T-shirt/top", "Dress", "Ankle boot"}
    for name, label in [("T-shirt/top", 0), ("Dress", 3), ("Ankle boot", 9)]:
        np.testing.assert_allclose(written[name].get_position(), np.median(z[y == label], axis=0), rtol=1e-6)
        assert (written[name].get_ha(), written[name].get_va()) == ("center", "center")


def test_show_latent_moves_names_apart_that_would_cover_each_other(ax):
    places = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.5, 0.2], [-0.4, 0.5], [1.0, 0.9], [-1.0, -0.1], [3.0, 0.0]])
    helpers.show_latent(places, torch.arange(7), ax=ax)

    for one, two in combinations([text.get_position() for text in ax.texts], 2):
        assert abs(one[0] - two[0]) >= 1.7 or abs(one[1] - two[1]) >= 0.3 - 1e-6
    positions = {text.get_text(): text.get_position() for text in ax.texts}
    assert [positions[name][0] for name in helpers.CLASSES[:7]] == pytest.approx(places[:, 0].tolist())  # only upwards
    assert positions["Shirt"] == pytest.approx((3, 0))  # which stands alone


def test_show_latent_leaves_the_names_out_when_asked(ax, points):
    helpers.show_latent(*points, ax=ax, names=False)

    assert len(ax.texts) == 0


@pytest.mark.parametrize("scale", [0.01, 1, 100])
def test_show_latent_has_the_same_plane_whatever_the_points(ax, points, scale):
    helpers.show_latent(scale * points[0], ax=ax)

    assert ax.get_xlim() == ax.get_ylim() == (-4, 4)
    assert ax.get_aspect() == 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$", "$z_2$")


@pytest.mark.parametrize("shape", [(2,), (5, 3), (5, 2, 1)])
def test_show_latent_refuses_other_than_two_dimensions(ax, shape):
    with pytest.raises(ValueError) as caught:
        helpers.show_latent(torch.zeros(shape), ax=ax)

    assert str(caught.value) == f"z: expected shape (N, 2), received {shape}"


# the scale


def test_show_scale_draws_one_named_bar_per_cost_with_the_dearest_on_top(ax):
    bars = helpers.show_scale({"mean image": 385.04, "no idea": 543.4, "floor": 189.9}, ax=ax)

    assert [bar.get_width() for bar in bars] == [189.9, 385.04, 543.4]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["floor", "mean image", "no idea"]
    assert [text.get_text() for text in ax.texts] == ["189.9", "385.0", "543.4"]
    assert not ax.yaxis_inverted() and ax.get_xlim()[0] == 0 and ax.get_xlim()[1] > 543.4
    assert ax.get_xlabel() == "cost (nats per image)"


# all of them


DRAW = {
    "images": lambda **where: helpers.show_images(torch.rand(4, 784), **where).axes,
    "latent": lambda **where: helpers.show_latent(torch.rand(4, 2), **where).axes,
    "scale": lambda **where: helpers.show_scale({"one": 1.0}, **where)[0].axes,
}


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_given_axes_are_drawn_on_and_no_other_figure_is_opened(ax, draw):
    plt.figure()  # the current figure is another one
    before, settings = plt.get_fignums(), dict(plt.rcParams)

    assert draw(ax=ax) is ax
    assert plt.get_fignums() == before and not plt.gcf().axes
    assert dict(plt.rcParams) == settings


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_without_axes_the_current_ones_are_drawn_on(ax, draw):
    assert draw() is ax
    assert len(plt.get_fignums()) == 1


# posteriors and the aggregate posterior


@pytest.fixture
def posteriors():
    torch.manual_seed(0)
    return torch.randn(40, 2), -2 * torch.rand(40, 2) - 1


def test_the_two_sigma_ellipse_of_a_posterior_holds_865_of_1000_of_its_draws(ax):
    ellipses = helpers.show_posteriors(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.09, 0.25]]).log(), ax)

    axes = np.array([ellipses.get_widths()[0], ellipses.get_heights()[0]]) / 2
    draws = np.random.default_rng(0).normal((1, -2), (0.3, 0.5), size=(100_000, 2))
    inside = (((draws - (1, -2)) / axes) ** 2).sum(axis=1) < 1
    assert axes == pytest.approx((0.6, 1.0))
    assert inside.mean() == pytest.approx(1 - math.exp(-2), abs=0.005)


def test_show_posteriors_draws_each_ellipse_around_its_mean_in_units_of_the_plane(ax):
    helpers.show_latent(torch.zeros(1, 2), ax=ax)
    helpers.show_posteriors(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.09, 0.25]]).log(), ax).set_linewidth(0.5)
    ax.collections[0].remove()

    ax.axis("off")
    ax.figure.canvas.draw()
    dark = np.argwhere(np.asarray(ax.figure.canvas.buffer_rgba())[::-1, :, 0] < 200)[:, ::-1]
    (left, bottom), (right, top) = ax.transData.inverted().transform([dark.min(axis=0), dark.max(axis=0)])
    assert (left, right, bottom, top) == pytest.approx((0.4, 1.6, -3, -1), abs=0.04)


def test_show_posteriors_draws_on_the_current_axes_when_none_are_given(ax, posteriors):
    assert helpers.show_posteriors(*posteriors).axes is ax
    assert plt.get_fignums() == [1]


def test_the_aggregate_posterior_is_the_mean_of_the_normal_densities(posteriors):
    mu, logvar = posteriors
    axis = torch.linspace(-3, 3, 7)

    q = helpers.aggregate_posterior(mu, logvar, axis)

    distribution = torch.distributions.Independent(torch.distributions.Normal(mu, (logvar / 2).exp()), 1)
    for i, j in ((0, 0), (2, 5), (5, 2), (6, 3)):
        at = torch.stack([axis[j], axis[i]])  # row i is z2, column j is z1
        torch.testing.assert_close(q[i, j], distribution.log_prob(at).exp().mean())


def test_the_aggregate_posterior_of_more_than_one_batch_is_the_mean_of_all(posteriors):
    mu, logvar = (values[:1].expand(5001, 2) for values in posteriors)
    axis = torch.linspace(-3, 3, 5)

    torch.testing.assert_close(
        helpers.aggregate_posterior(mu, logvar, axis), helpers.aggregate_posterior(mu[:1], logvar[:1], axis)
    )


def test_the_aggregate_posterior_has_mass_one(posteriors):
    axis = torch.linspace(-8, 8, 321)

    mass = helpers.aggregate_posterior(*posteriors, axis).sum() * (axis[1] - axis[0]) ** 2

    assert mass.item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "function", [helpers.show_posteriors, lambda *a: helpers.aggregate_posterior(*a, torch.ones(2))]
)
def test_posteriors_in_other_than_two_dimensions_are_refused(function):
    with pytest.raises(ValueError, match=r"^mu: expected shape \(N, 2\), received \(5, 3\)"):
        function(torch.zeros(5, 3), torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"^mu and logvar: expected one shape .* received \(5, 2\) and \(4, 2\)"):
        function(torch.zeros(5, 2), torch.zeros(4, 2))
    assert plt.get_fignums() == []
