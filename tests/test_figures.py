"""figures: what is drawn, where it is, and that nothing else is touched."""

import base64
import math
from itertools import combinations
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from matplotlib.animation import FuncAnimation
from matplotlib.colors import to_rgb, to_rgba
from PIL import Image

import figures
import storage
from helpers import CLASSES


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
def points():
    """Five points of each of the classes 0, 3 and 9, and their labels."""
    torch.manual_seed(0)
    return torch.randn(15, 2), torch.tensor([0, 3, 9]).repeat(5)


@pytest.fixture
def cell(monkeypatch):
    """What IPython has in place of a notebook's front end: its `outputs` are those of a cell, figures as PNG."""
    shell = SimpleNamespace(display_formatter=DisplayFormatter(), display_pub=CapturingDisplayPublisher())
    select_figure_formats(shell, {"png"})
    monkeypatch.setattr(InteractiveShell, "initialized", classmethod(lambda _: True))
    monkeypatch.setattr(InteractiveShell, "instance", classmethod(lambda _: shell))
    return shell.display_pub


@pytest.fixture
def output(tmp_path, monkeypatch):
    """The folder that files are written to, which is not there yet."""
    monkeypatch.setattr(storage, "OUTPUT", tmp_path / "new")
    return tmp_path / "new"


def files_in(folder):
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


# style and files


def test_use_style_sets_the_colours_of_curves_and_the_layout():
    figures.use_style()

    figure, ax = plt.subplots()
    lines = [ax.plot([0, 1])[0].get_color() for _ in figures.LINES]
    assert lines == list(figures.LINES)
    assert not ax.spines["top"].get_visible() and not ax.spines["right"].get_visible()
    assert (figure.dpi, type(figure.get_layout_engine()).__name__) == (100, "ConstrainedLayoutEngine")


def test_use_style_sets_small_letters_and_takes_grids_and_frames_away():
    plt.rcParams.update({"font.size": 7, "axes.titlesize": 7, "axes.grid": True, "legend.frameon": True})

    figures.use_style()

    ax = plt.figure().add_subplot(title="one")
    ax.plot([0, 1], label="two")
    assert ax.title.get_size() == ax.legend().get_texts()[0].get_size() == ax.xaxis.label.get_size() == 10
    assert not ax.get_legend().get_frame_on() and not ax.xaxis.get_gridlines()[0].get_visible()


def test_each_of_the_ten_classes_has_a_colour():
    assert (len(CLASSES), CLASSES[0], CLASSES[9]) == (10, "T-shirt/top", "Ankle boot")
    assert len(figures.COLORS) == 10


def test_the_first_two_curves_are_blue_and_red_as_the_texts_say():
    (red, green, blue), (red_2, green_2, blue_2) = map(to_rgb, figures.LINES[:2])
    assert blue > 2 * max(red, green) and red_2 > 2 * max(green_2, blue_2)


VISIONS = {  # how light is seen, in linear RGB (Machado, Oliveira and Fernandes 2009, full severity)
    "all cones": np.eye(3),
    "no L cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no M cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no S cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color):
    value = np.array(to_rgb(color))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(light):
    """CIE L*a*b*, where a distance of 2.3 is just noticeable."""
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ light / (0.9505, 1.0, 1.089), 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("palette", ["COLORS", "LINES"])
@pytest.mark.parametrize("vision", VISIONS)
def test_colours_are_apart_for_every_kind_of_colour_vision(vision, palette):
    seen = [lab(np.clip(VISIONS[vision] @ linear(color), 0, 1)) for color in getattr(figures, palette)]

    assert min(np.linalg.norm(one - two) for one, two in combinations(seen, 2)) > 5 * 2.3


def test_curves_are_legible_on_white():
    contrasts = [1.05 / (TO_XYZ[1] @ linear(color) + 0.05) for color in figures.LINES]

    assert min(contrasts) > 3  # what WCAG 2.2 asks of graphics


def test_show_puts_one_picture_with_its_alt_text_below_the_cell(cell):
    figure, _ = plt.subplots()

    figures.show(figure, alt="Two clouds that do not touch.")

    (shown,) = cell.outputs
    assert base64.b64decode(shown["data"]["image/png"]).startswith(b"\x89PNG")
    assert shown["metadata"]["image/png"]["alt"] == "Two clouds that do not touch."


def test_show_closes_the_figure_that_it_showed_and_no_other(cell):
    shown, kept = plt.figure(), plt.figure()  # the current one is kept

    figures.show(shown, alt="Nothing.")

    assert plt.get_fignums() == [kept.number]


def test_show_without_a_figure_shows_the_current_one(cell):
    plt.figure()
    plt.figure(figsize=(3, 2), dpi=100)

    figures.show(alt="Nothing.")

    (shown,) = cell.outputs
    assert "300x200" in shown["data"]["text/plain"] and plt.get_fignums() == [1]


def test_figure_cannot_be_shown_without_an_alt_text(cell):
    with pytest.raises(TypeError, match="alt"):
        figures.show(plt.figure())

    assert cell.outputs == []


def test_save_figure_writes_a_png_of_150_dots_per_inch_to_images(output):
    for width in (3, 4):  # the second one replaces the first
        figures.save_figure(plt.figure(figsize=(width, 2)), "plot.png")

    assert files_in(output) == ["images/plot.png"]
    assert plt.imread(output / "images" / "plot.png").shape[:2] == (300, 600)


def test_save_animation_writes_a_gif_with_every_picture_at_the_rate_asked_for(output):
    figure, ax = plt.subplots(figsize=(2, 1), dpi=50)
    (line,) = ax.plot([0, 1])
    plt.rcParams["animation.writer"] = "html"  # whatever a reader's settings say
    animation = FuncAnimation(figure, lambda i: line.set_ydata([0, i]), frames=3, init_func=lambda: None)

    figures.save_animation(animation, "moving.gif", fps=10)

    assert files_in(output) == ["images/moving.gif"]
    with Image.open(output / "images" / "moving.gif") as gif:
        assert (gif.format, gif.n_frames, gif.size, gif.info["duration"]) == ("GIF", 3, (100, 50), 100)


@pytest.mark.parametrize("save", [figures.save_figure, lambda *arguments: figures.save_animation(*arguments, fps=5)])
def test_picture_that_cannot_be_written_leaves_the_old_one(output, save):
    (output / "images").mkdir(parents=True)
    (output / "images" / "plot.gif").write_text("as it was")

    with pytest.raises((AttributeError, TypeError)):
        save(None, "plot.gif")

    assert files_in(output) == ["images/plot.gif"]
    assert (output / "images" / "plot.gif").read_text() == "as it was"


# grids of images


def test_show_images_puts_the_images_row_by_row_with_a_border_of_one_pixel(ax):
    images = torch.rand(5, 784)

    grid = np.asarray(figures.show_images(images, columns=3, ax=ax).get_array())

    assert grid.shape == (2 * 30, 3 * 30)
    for i, image in enumerate(images):
        row, column = divmod(i, 3)
        cell = grid[30 * row : 30 * row + 30, 30 * column : 30 * column + 30]
        assert np.array_equal(cell, np.pad(image.view(28, 28), 1))


def test_show_images_leaves_missing_images_blank(ax):
    grid = figures.show_images(torch.ones(4, 784), columns=3, ax=ax).get_array()

    assert (grid[30:, 30:] == 0).all()
    assert grid.sum() == 4 * 784


def test_show_images_has_ten_columns_unless_told(ax):
    assert figures.show_images(torch.ones(11, 784), ax=ax).get_array().shape == (2 * 30, 10 * 30)


def test_show_images_draws_ink_dark_and_the_first_row_on_top(ax):
    picture = figures.show_images(torch.rand(4, 784), columns=2, ax=ax)

    assert picture.axes is ax
    assert picture.to_rgba(0.0) == to_rgba("white") and picture.to_rgba(1.0) == to_rgba("black")
    assert ax.yaxis_inverted() and not ax.xaxis_inverted()


@pytest.mark.parametrize("vmax", [1, 0.4])
def test_show_images_has_fixed_grey_levels(ax, vmax):
    picture = figures.show_images(torch.linspace(-0.2, 0.2, 4 * 784).view(4, 784), ax=ax, vmax=vmax)

    assert picture.get_clim() == (0, vmax) and picture.get_interpolation() == "nearest"


def test_show_images_names_its_rows_and_has_no_other_marks(ax):
    figures.show_images(torch.rand(6, 784), columns=3, ax=ax, rows=("before", "after"))

    assert [label.get_text() for label in ax.get_yticklabels()] == ["before", "after"]
    assert list(ax.get_yticks()) == [15, 45]  # the middle of each row
    assert list(ax.get_xticks()) == []
    assert not any(spine.get_visible() for spine in ax.spines.values())
    assert [tick.tick1line.get_markersize() for tick in ax.yaxis.get_major_ticks()] == [0, 0]


@pytest.mark.parametrize("images", [torch.rand(4, 784, requires_grad=True), torch.rand(4, 784).bfloat16()])
def test_show_images_takes_images_of_any_kind(ax, images):
    figures.show_images(images, ax=ax)

    assert len(ax.images) == 1


@pytest.mark.parametrize("shape", [(784,), (4, 28, 28), (4, 1, 28, 28), (4, 783)])
def test_show_images_refuses_another_shape(ax, shape):
    with pytest.raises(ValueError) as caught:
        figures.show_images(torch.zeros(shape), ax=ax)

    assert str(caught.value) == f"images: expected shape (N, 784), received {shape}"


# the latent plane


def test_show_latent_draws_every_point_where_it_is(ax, points):
    z, y = points

    drawn = figures.show_latent(z, y, ax=ax)

    assert drawn.axes is ax and ax.collections[0] is drawn
    np.testing.assert_allclose(drawn.get_offsets(), z)


def test_show_latent_draws_small_dots_through_which_others_are_seen(ax, points):
    small, large = (figures.show_latent(points[0].requires_grad_(), ax=ax, **size) for size in ({}, {"size": 9}))

    assert list(small.get_sizes()) == [5] and list(large.get_sizes()) == [9]
    assert list(small.get_linewidths()) == [0] and set(small.get_facecolors()[:, 3]) == {0.8}


def test_show_latent_gives_each_class_its_fixed_colour(ax, points):
    z, y = points

    colors = figures.show_latent(z, y, ax=ax).get_facecolors()

    expected = [to_rgba(figures.COLORS[label])[:3] for label in y.tolist()]
    np.testing.assert_allclose(colors[:, :3], expected)


def test_show_latent_without_labels_is_grey_and_has_no_names(ax, points):
    drawn = figures.show_latent(points[0], ax=ax)

    red, green, blue, _ = drawn.get_facecolors().T
    assert (red == green).all() and (green == blue).all() and (red < 0.5).all()
    assert len(ax.texts) == 0


def test_show_latent_writes_the_name_of_each_class_on_its_median(ax, points):
    z, y = points
    z = z + torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0]]).repeat(5, 1)  # far apart: no name covers another one
    figures.show_latent(z, y, ax=ax)

    written = {text.get_text(): text for text in ax.texts}
    assert set(written) == {"T-shirt/top", "Dress", "Ankle boot"}
    for name, label in [("T-shirt/top", 0), ("Dress", 3), ("Ankle boot", 9)]:
        np.testing.assert_allclose(written[name].get_position(), np.median(z[y == label], axis=0), rtol=1e-6)
        assert (written[name].get_ha(), written[name].get_va()) == ("center", "center")
        assert written[name].get_weight() == "bold"


def test_the_name_of_a_class_stands_on_white_in_a_frame_of_its_colour(ax):
    figures.show_latent(torch.tensor([[-2.0, 0.0], [2.0, 0.0]]), torch.tensor([9, 1]), ax=ax)

    frames = {text.get_text(): text.get_bbox_patch() for text in ax.texts}
    for name in ("Ankle boot", "Trouser"):
        assert to_rgb(frames[name].get_facecolor()) == (1, 1, 1)
        assert to_rgb(frames[name].get_edgecolor()) == to_rgb(figures.COLORS[CLASSES.index(name)])
        assert frames[name].get_linewidth() == pytest.approx(2, abs=0.5)  # seen from the back row, and no bar


@pytest.mark.parametrize("inches", [2, 8])
def test_names_have_the_letters_of_the_page_and_smaller_ones_on_a_small_map(inches):
    ax = plt.figure(figsize=(inches, 2 * inches)).add_axes((0.1, 0.1, 0.8, 0.4))
    figures.show_latent(torch.tensor([[-2.0, 0.0], [2.0, 0.0]]), torch.tensor([9, 1]), ax=ax)

    assert [text.get_size() for text in ax.texts] == [min(plt.rcParams["font.size"], 2.5 * 0.8 * inches)] * 2
    assert 2.5 * 0.8 * 2 < plt.rcParams["font.size"] < 2.5 * 0.8 * 8


def test_show_latent_moves_names_apart_that_would_cover_each_other(ax):
    places = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.5, 0.2], [-0.4, 0.5], [1.0, 0.9], [-1.0, -0.1], [3.0, 0.0]])
    figures.show_latent(places, torch.arange(7), ax=ax)

    ax.figure.canvas.draw()
    boxes = [text.get_bbox_patch().get_window_extent() for text in ax.texts]
    assert not any(one.padded(-2).overlaps(two.padded(-2)) for one, two in combinations(boxes, 2))
    positions = {text.get_text(): text.get_position() for text in ax.texts}
    assert [positions[name][0] for name in CLASSES[:7]] == pytest.approx(places[:, 0].tolist())  # only upwards
    assert positions["Shirt"] == pytest.approx((3, 0))  # which stands alone


AT_2 = torch.tensor([[2.0, 0.2], [2.1, 0.0]])  # the upper one first by name, by label and from left to right


@pytest.mark.parametrize("labels", [(9, 1), (1, 9)])
def test_a_name_moves_above_a_lower_one_by_the_height_of_a_line(ax, labels):
    figures.show_latent(AT_2, torch.tensor(labels), ax=ax)

    upper, lower = (text for label in labels for text in ax.texts if text.get_text() == CLASSES[label])
    assert lower.get_position() == pytest.approx((2.1, 0))
    inches = min(ax.get_position().size * ax.figure.get_size_inches())
    line = 1.4 * min(plt.rcParams["font.size"], 2.5 * inches) / 72  # inches
    assert upper.get_position() == pytest.approx((2, line / inches * 8), rel=1e-3)


@pytest.mark.parametrize("place", [(1.1, 0.0), (-1.1, 0.1), (0.0, 1.0), (0.1, 3.0)])
def test_names_that_stand_side_by_side_or_far_above_stay(ax, place):
    figures.show_latent(torch.tensor([[0.0, 0.0], place]), torch.tensor([3, 6]), ax=ax)  # Dress and Shirt

    assert {text.get_text(): text.get_position() for text in ax.texts}["Shirt"] == pytest.approx(place)


@pytest.mark.parametrize("labels, letters", [((3, 6), 5 + 5), ((4, 5), 4 + 6)])
@pytest.mark.parametrize("share, stays", [(0.97, False), (1.03, True)])
def test_two_names_side_by_side_need_a_fifth_of_a_line_for_each_letter_and_one_between(
    ax, labels, letters, share, stays
):
    inches = min(ax.get_position().size * ax.figure.get_size_inches())
    line = 1.4 * min(plt.rcParams["font.size"], 2.5 * inches) / 72 / inches * 8
    place = (share * 0.2 * line * (letters + 1), 0.01)
    figures.show_latent(torch.tensor([[0.0, 0.0], place]), torch.tensor(labels), ax=ax)

    second = {text.get_text(): text.get_position() for text in ax.texts}[CLASSES[labels[1]]]
    assert (second == pytest.approx(place)) == stays


def test_show_latent_leaves_the_names_out_when_asked(ax, points):
    figures.show_latent(*points, ax=ax, names=False)

    assert len(ax.texts) == 0


@pytest.mark.parametrize("scale", [0.01, 1, 100])
def test_show_latent_has_the_same_plane_whatever_the_points(ax, points, scale):
    figures.show_latent(scale * points[0], ax=ax)

    assert ax.get_xlim() == ax.get_ylim() == (-4, 4)
    assert ax.get_aspect() == 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$", "$z_2$")


@pytest.mark.parametrize("shape", [(2,), (5, 3), (5, 2, 1)])
def test_show_latent_refuses_other_than_two_dimensions(ax, shape):
    with pytest.raises(ValueError) as caught:
        figures.show_latent(torch.zeros(shape), ax=ax)

    assert str(caught.value) == f"z: expected shape (N, 2), received {shape}"


# posteriors


def test_the_two_sigma_ellipse_of_a_posterior_holds_865_of_1000_of_its_draws(ax):
    mu = torch.tensor([[1.0, -2.0]], requires_grad=True)
    ellipses = figures.show_posteriors(mu, torch.tensor([[0.09, 0.25]]).log().requires_grad_(), ax)

    axes = np.array([ellipses.get_widths()[0], ellipses.get_heights()[0]]) / 2
    draws = np.random.default_rng(0).normal((1, -2), (0.3, 0.5), size=(100_000, 2))
    inside = (((draws - (1, -2)) / axes) ** 2).sum(axis=1) < 1
    assert axes == pytest.approx((0.6, 1.0))
    assert inside.mean() == pytest.approx(1 - math.exp(-2), abs=0.005)


def test_show_posteriors_draws_each_ellipse_around_its_mean_in_units_of_the_plane(ax):
    figures.show_latent(torch.zeros(1, 2), ax=ax)
    figures.show_posteriors(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.09, 0.25]]).log(), ax).set_linewidth(0.5)
    ax.collections[0].remove()

    ax.axis("off")
    ax.figure.canvas.draw()
    dark = np.argwhere(np.asarray(ax.figure.canvas.buffer_rgba())[::-1, :, 0] < 200)[:, ::-1]
    (left, bottom), (right, top) = ax.transData.inverted().transform([dark.min(axis=0), dark.max(axis=0)])
    assert (left, right, bottom, top) == pytest.approx((0.4, 1.6, -3, -1), abs=0.04)


def test_show_posteriors_draws_thin_lines_and_fills_nothing(ax):
    ellipses = figures.show_posteriors(torch.zeros(2, 2), torch.zeros(2, 2), ax)

    assert list(ellipses.get_linewidths()) == [0.8] and len(ellipses.get_facecolors()) == 0
    assert ellipses.get_edgecolors().tolist() == [[0, 0, 0, 1]]


def test_posteriors_in_other_than_two_dimensions_are_refused():
    with pytest.raises(ValueError, match=r"^mu: expected shape \(N, 2\), received \(5, 3\)"):
        figures.show_posteriors(torch.zeros(5, 3), torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"^mu and logvar: expected one shape .* received \(5, 2\) and \(4, 2\)"):
        figures.show_posteriors(torch.zeros(5, 2), torch.zeros(4, 2))

    assert plt.get_fignums() == []


# the scale


def test_show_scale_draws_one_named_bar_per_cost_with_the_dearest_on_top(ax):
    bars = figures.show_scale({"the mean image": 385.04, "no idea": 543.4, "the floor": 189.9}, ax=ax)

    assert [bar.get_width() for bar in bars] == [189.9, 385.04, 543.4]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["the floor", "the mean image", "no idea"]
    assert [text.get_text() for text in ax.texts] == ["189.9", "385.0", "543.4"]
    assert not ax.yaxis_inverted() and ax.get_xlim() == pytest.approx((0, 1.12 * 543.4))  # room for the values
    assert [text.xyann for text in ax.texts] == [(3, 0)] * 3
    assert ax.get_xlabel() == "cost (nats per image)"


# all of them


DRAW = {
    "images": lambda **where: figures.show_images(torch.rand(4, 784), **where).axes,
    "latent": lambda **where: figures.show_latent(torch.rand(4, 2), **where).axes,
    "posteriors": lambda **where: figures.show_posteriors(torch.rand(4, 2), torch.rand(4, 2), **where).axes,
    "scale": lambda **where: figures.show_scale({"one": 1.0}, **where)[0].axes,
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
