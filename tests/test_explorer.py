"""Tests of the latent explorer: its Python half, the saved page in a browser, and the widget in a real Jupyter.

The browser is Chromium from the system or from Playwright. Where there is none these tests are skipped, with CI set
they fail. The notebook's front end is the one that is installed: JupyterLab, or the classic Notebook of Colab's stack.
"""

import base64
import builtins
import contextlib
import copy
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import traitlets
from firefox import BINARY, Firefox
from PIL import Image

import exact
import helpers
import storage
from explorer import STATE, TOGETHER, _bytes64, _encoder_state, _page_decoder, latent_explorer
from explorer.choice import plane_peaks
from figures import COLORS, LATENT_LIMIT
from tools import notebooks as tool

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
LAB = importlib.util.find_spec("jupyterlab") is not None
ROOM = storage.ROOT / "explorer"
COUNT_MAPS = (Path(__file__).parent / "browser" / "count_maps.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def vae():
    return helpers.load_vae(helpers.REFERENCE)


@pytest.fixture(scope="module")
def points():
    """Six hundred codes in ten clouds, as many of each class, and their labels."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(10).repeat(60)
    angle = labels * 0.628
    return 2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.3 * torch.randn(600, 2, generator=draws), labels


@pytest.fixture(scope="module")
def explorer(vae, points):
    return latent_explorer(vae, *points)


@pytest.fixture(scope="module")
def without_anywidget():
    """A second copy of the explorer, imported where anywidget is not installed."""
    real = builtins.__import__

    def blocked(name, *arguments, **options):
        if name.partition(".")[0] == "anywidget":
            raise ImportError(name)
        return real(name, *arguments, **options)

    spec = importlib.util.spec_from_file_location("explorer_without_anywidget", ROOM / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "__import__", blocked)
        spec.loader.exec_module(module)
    return module


def grey_levels(vae, z):
    """Return the 784 grey levels of the garment at z, dark ink on white, as torch decodes it in float32."""
    return np.rint(255 * (1 - helpers.decode(vae, torch.tensor([z]))[0].numpy()))


# what the page is given


def test_the_page_gets_every_layer_of_the_decoder_in_float16(explorer, vae):
    assert explorer.sizes == [2, *reversed(vae.config["hidden"]), 784]
    weights = np.frombuffer(base64.b64decode(explorer.weights), "<f2")

    expected = torch.cat([weight.detach().flatten() for weight in vae.decoder.parameters()])
    np.testing.assert_array_equal(weights, expected.numpy().astype("<f2"))


def test_the_page_gets_codes_labels_and_the_constants_of_the_series(explorer, points):
    codes = np.frombuffer(base64.b64decode(explorer.codes), "<f2").reshape(-1, 2)

    np.testing.assert_array_equal(codes, points[0].numpy().astype("<f2"))
    assert list(base64.b64decode(explorer.labels)) == points[1].tolist()
    assert (tuple(explorer.classes), tuple(explorer.colors)) == (helpers.CLASSES, COLORS)
    assert explorer.limit == LATENT_LIMIT


def test_the_widget_of_a_notebook_gets_all_that_the_page_has_and_tells_what_it_finds(explorer):
    assert isinstance(explorer, anywidget.AnyWidget)
    assert {*STATE, "found"} <= set(explorer.keys)


def test_of_many_codes_an_even_choice_of_5000_is_drawn(vae, points):
    codes, labels = (values.repeat_interleave(9, 0) for values in points)  # 5,400

    explorer = latent_explorer(vae, codes, labels)

    drawn = list(base64.b64decode(explorer.labels))
    assert len(drawn) == 5000 and np.bincount(drawn).min() > 490


@pytest.mark.parametrize("hidden", [(), (8,), (16, 8, 4)])
def test_any_depth_of_the_decoder_is_taken(points, hidden):
    assert latent_explorer(helpers.VAE(hidden=hidden), *points).sizes == [2, *reversed(hidden), 784]


def test_a_decoder_that_is_one_layer_is_taken(points):
    model = with_decoder()
    model.decoder = linear(2, 784)
    assert latent_explorer(model, *points).sizes == [2, 784]


def test_the_weights_of_the_model_stay_as_they_are(points):
    model = helpers.VAE(hidden=(8,))  # the reference's are those of float16 already
    before = copy.deepcopy(model.state_dict())
    latent_explorer(model, *points)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_the_page_has_the_encoder_in_float16(vae):
    weights = torch.cat([weight.detach().flatten() for weight in vae.encoder.parameters()]).half()
    assert _encoder_state(vae) == {
        "encoder_sizes": [784, 256, 256, 256, 256, 4],
        "encoder": base64.b64encode(weights.numpy().tobytes()).decode(),
    }


def test_an_encoder_that_the_page_cannot_run_is_refused():
    model = helpers.VAE(hidden=(8,))
    model.encoder[1] = torch.nn.ReLU()
    expected = "an encoder of Linear layers .*, from 784 numbers to a mean and a log variance for each axis"
    with pytest.raises(ValueError, match=rf"expected {expected}, received Linear.*ReLU"):
        _encoder_state(model)


def test_a_picture_becomes_text_of_one_byte_a_pixel_to_the_nearest_grey_level():
    text = _bytes64(torch.tensor([[0.0, 0.5015, 1.0]]))  # 127.9 of 255
    assert isinstance(text, str) and base64.b64decode(text) == bytes([0, 128, 255])


def test_float16_keeps_every_garment_of_the_plane_within_one_grey_level(vae):
    z = LATENT_LIMIT * (2 * torch.rand(3000, 2, generator=torch.Generator().manual_seed(1)) - 1)

    page = torch.sigmoid(_page_decoder(vae)(z))

    assert 255 * (page - helpers.decode(vae, z)).abs().max() < 1


def test_z_is_set_and_read_from_python(explorer):
    explorer.z = (1, -0.5)
    assert explorer.z == (1.0, -0.5) and repr(explorer) == "LatentExplorer(z=(1.0, -0.5))"
    explorer.z = (0.0, 0.0)


@pytest.mark.parametrize("z", [(9, 0), (0, -4.01), (float("nan"), 0), (1,), "ab", 3])
def test_z_outside_the_plane_is_refused(explorer, z):
    with pytest.raises(traitlets.TraitError, match="z"):
        explorer.z = z
    assert explorer.z == (0.0, 0.0)


def test_viewers_without_javascript_get_a_png_and_it_is_what_git_keeps(explorer):
    data, metadata = explorer._repr_mimebundle_()
    assert metadata == {"image/png": {"alt": explorer.alt}}
    output = tool.nbformat.v4.new_output("display_data", data, metadata=metadata)

    kept = tool.normal_output(output).data

    assert data[tool.WIDGET] == {"version_major": 2, "version_minor": 0, "model_id": explorer.model_id}
    assert sorted(kept) == ["image/png", "text/plain"] and kept["text/plain"] == "LatentExplorer(z=(0.0, 0.0))"
    assert base64.b64decode(kept["image/png"]).startswith(b"\x89PNG") and len(kept["image/png"]) < 250_000


def test_colab_is_told_where_its_widget_manager_is(explorer, monkeypatch):
    output = SimpleNamespace(enable_custom_widget_manager=lambda: None, _widgets=SimpleNamespace(_installed_url="here"))
    monkeypatch.setitem(sys.modules, "google.colab.output", output)

    _, metadata = explorer._repr_mimebundle_()

    assert metadata[tool.WIDGET] == {"colab": {"custom_widget_manager": {"url": "here"}}}
    assert metadata["image/png"] == {"alt": explorer.alt}


def test_the_still_picture_is_the_map_and_an_even_grid_of_garments(vae, points, monkeypatch):
    drawn = {}
    monkeypatch.setattr("explorer.show_latent", lambda z, y, ax, **_: drawn.update(map=(z, y, ax)))
    monkeypatch.setattr("explorer.show_images", lambda x, columns, ax: drawn.update(garments=(x, columns, ax)))

    still = latent_explorer(vae, *points).still

    (z, y, left), (x, columns, right) = drawn.values()
    assert Image.open(io.BytesIO(still)).size == (800, 400) and list(drawn) == ["map", "garments"]
    assert z.equal(points[0]) and y.equal(points[1]) and columns == 9
    ticks = [-3 + 0.75 * i for i in range(9)]
    torch.testing.assert_close(x, helpers.decode(vae, torch.tensor([(z1, z2) for z2 in ticks[::-1] for z1 in ticks])))
    assert [ax.get_subplotspec().colspan.start for ax in (left, right)] == [0, 1]
    assert right.get_title() == "decoded: −3 to 3 in both directions"
    assert type(left.figure.get_layout_engine()).__name__ == "ConstrainedLayoutEngine"


def test_the_still_picture_is_a_png_of_one_size_whatever_the_notebook_has_set(vae, points):
    with plt.rc_context({"savefig.dpi": 50, "savefig.format": "pdf"}):
        still = latent_explorer(vae, *points).still
    assert still.startswith(b"\x89PNG") and Image.open(io.BytesIO(still)).size == (800, 400)


def test_the_still_picture_says_whose_decoder_paints_it(vae, points):
    alone = helpers.VAE(hidden=(8,))
    alone.encoder = None
    assert "garments that the decoder paints" in latent_explorer(vae, *points).alt
    assert "garments that the decoder without an encoder paints" in latent_explorer(alone, *points).alt


def test_the_still_picture_opens_no_figure(vae, points):
    before = plt.get_fignums()
    latent_explorer(vae, *points)
    assert plt.get_fignums() == before


# what it refuses


class Squared(helpers.VAE):
    def decode(self, z):
        return self.decoder(z) ** 2


class Shifted(helpers.VAE):
    """Decodes what its layers do, `levels` of 255 grey levels darker."""

    def __init__(self, levels):
        super().__init__(hidden=(8,))
        self.levels = levels

    def decode(self, z):
        return torch.logit(torch.sigmoid(self.decoder(z)) + self.levels / 255)


def spoiled(value):
    model = helpers.VAE(hidden=(8,))
    with torch.no_grad():
        model.decoder[2].weight[5, 3] = value
    return model


def with_decoder(*layers):
    model = helpers.VAE(hidden=(8,))
    model.decoder = torch.nn.Sequential(*layers)
    return model


linear = torch.nn.Linear
CODES, LABELS = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
REFUSED = {
    "three columns": ({"codes": torch.zeros(4, 3)}, r"codes: expected shape \(N, 2\), received \(4, 3\)"),
    "no codes": ({"codes": CODES[:0], "labels": LABELS[:0]}, r"codes: expected shape \(N, 2\), received \(0, 2\)"),
    "NaN codes": ({"codes": CODES * float("nan")}, "codes: expected finite numbers"),
    "one huge code": ({"codes": CODES.index_fill(0, torch.tensor(2), 1e5)}, "codes: expected finite numbers"),
    "huge codes": ({"codes": CODES + 1e5}, "codes: expected finite numbers"),
    "few labels": ({"labels": LABELS[:3]}, r"labels: expected one int64 for each of 4 codes, .* \(3,\)"),
    "float labels": ({"labels": LABELS.float()}, "labels: expected one int64 .* torch.float32"),
    "label 10": ({"labels": LABELS + 10}, "labels: expected classes 0 to 9, received 10 to 10"),
    "one label 10": ({"labels": torch.tensor([0, 3, 10, 0])}, "labels: expected classes 0 to 9, received 0 to 10"),
    "one label -1": ({"labels": torch.tensor([0, 3, -1, 0])}, "labels: expected classes 0 to 9, received -1 to 3"),
    "label -1": ({"labels": LABELS - 1}, "labels: expected classes 0 to 9, received -1 to -1"),
    "3-D": ({"model": helpers.VAE(latent_dim=3)}, r"from 2 numbers to 784 logits, received Linear\(in_features=3"),
    "ReLU": ({"model": with_decoder(linear(2, 8), torch.nn.ReLU(), linear(8, 784))}, r"received .*ReLU\(\)"),
    "ReLU after SiLU": (
        {"model": with_decoder(linear(2, 8), torch.nn.SiLU(), linear(8, 8), torch.nn.ReLU(), linear(8, 784))},
        r"received .*ReLU\(\)",
    ),
    "a network in a network": (
        {"model": with_decoder(torch.nn.Sequential(linear(2, 784)))},
        r"received Sequential\(; helpers",
    ),
    "sigmoid": ({"model": with_decoder(linear(2, 784), torch.nn.Sigmoid())}, r"received .*Sigmoid\(\)"),
    "783": ({"model": with_decoder(linear(2, 783))}, "out_features=783"),
    "no bias": ({"model": with_decoder(linear(2, 784, bias=False))}, "bias=False"),
    "empty": ({"model": with_decoder()}, "expected a decoder of Linear layers with SiLU"),
    "NaN": ({"model": spoiled(float("nan"))}, "model: expected finite weights"),
    "too large for float16": ({"model": spoiled(7e4)}, "model: expected finite weights"),
    "another way to decode": ({"model": Squared(hidden=(8,))}, "grey levels off"),
    "three grey levels": ({"model": Shifted(3)}, r"3\.0 grey levels off"),
    "a little more than one": ({"model": Shifted(1.1)}, r"1\.1 grey levels off"),
}


@pytest.mark.parametrize("changed, message", REFUSED.values(), ids=REFUSED)
def test_what_the_page_cannot_show_is_refused(changed, message):
    given = {"model": helpers.VAE(hidden=(8,)), "codes": CODES, "labels": LABELS, **changed}
    with pytest.raises(ValueError, match=message):
        latent_explorer(**given)


def test_garments_within_one_grey_level_are_shown():
    assert latent_explorer(Shifted(0.9), CODES, LABELS).sizes == [2, 8, 784]


# without anywidget


def test_without_anywidget_two_sliders_move_the_garment_over_the_whole_plane(without_anywidget, vae, points):
    explorer = without_anywidget.latent_explorer(vae, *points)
    (sliders, garment), seen = (explorer.children[0].children, explorer.children[1]), set()

    for z in [(0.0, 0.0), (-4.0, -4.0), (4.0, 4.0), (-4.0, 4.0), (1.23, -0.45)]:
        sliders[0].value, sliders[1].value = z
        seen.add(bytes(garment.value))
        assert explorer.z == z

    assert len(seen) == 5 and all(png.startswith(b"\x89PNG") for png in seen)
    assert [slider.description for slider in sliders] == ["z₁", "z₂"]
    assert {(slider.min, slider.max, slider.step) for slider in sliders} == {(-4, 4, 0.01)}
    assert (garment.format, garment.width, garment.height) == ("png", "280", "280")


def test_without_anywidget_python_moves_the_sliders_and_the_picture_is_what_torch_decodes(
    without_anywidget, vae, points
):
    explorer, seen = without_anywidget.latent_explorer(vae, *points), []
    explorer.observe(lambda change: seen.append(change.new), "z")
    explorer.z = (1.5, -0.5)

    assert seen == [(1.5, -0.5)]  # and no point on the way, one axis after the other
    assert [slider.value for slider in explorer.children[0].children] == [1.5, -0.5]
    picture = plt.imread(io.BytesIO(explorer.children[1].value))
    assert picture.shape == (280, 280, 4) and (picture[:, :, 3] == 1).all()
    pixels = picture[::10, ::10, 0].ravel()
    np.testing.assert_allclose(255 * pixels, grey_levels(vae, (1.5, -0.5)), atol=0.01)


def test_without_anywidget_the_same_page_is_saved(without_anywidget, explorer, vae, points, tmp_path):
    without_anywidget.latent_explorer(vae, *points).save(tmp_path / "one.html")
    explorer.save(tmp_path / "two.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


# the saved page as a file


def test_the_page_is_one_small_file_that_points_nowhere(explorer, tmp_path):
    explorer.save(tmp_path / "new" / "page.html")

    page = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert os.listdir(tmp_path / "new") == ["page.html"] and len(page.encode()) <= 2_000_000
    assert re.findall(r"""(?:src|href)\s*=\s*["']?([^"'>\s]+)""", page) == ["data:,"]
    assert not re.search(r"https?:|//\w+\.\w|\bimport\b[\s(*{\"']|@import|fetch\(|url\(", page)
    assert '<html lang="en">' in page and "<title>" in page and "viewport" in page and page.count("<h1>") == 1


def test_nothing_in_the_page_ends_its_script_early(explorer, tmp_path):
    explorer.classes = ["</script><!--{{script}}{{state}}", *helpers.CLASSES[1:]]
    explorer.save(tmp_path / "page.html")
    explorer.classes = list(helpers.CLASSES)

    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 1 and "<!--" not in page and page.count("{{script}}{{state}}") == 1
    script = (ROOM / "explorer.js").read_text(encoding="utf-8")
    assert script in page.replace("const explorer =", "export default") and "mount" in script
    assert "export default" not in page
    (state,) = re.findall(r"explorer\.mount\(.*?, (\{.*\})\);\n", page)
    assert json.loads(state)["classes"][0] == "</script><!--{{script}}{{state}}"


def test_the_page_lets_nothing_in_but_its_own_script_and_style(explorer, tmp_path):
    page = explorer.save(tmp_path / "page.html").read_text(encoding="utf-8")
    allowed = re.search(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', page)[1]
    inside = "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; worker-src blob:"
    assert allowed == f"default-src 'none'; {inside}"


def test_without_a_path_the_page_goes_beside_the_figures(explorer, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "OUTPUT", tmp_path)
    path = explorer.save()

    assert path == tmp_path / "images" / "latent_explorer.html"
    assert path.read_bytes() == explorer.save(tmp_path / "page.html").read_bytes()


def test_the_page_in_images_has_the_script_and_the_weights_of_today(vae, alone):
    page = (storage.ROOT / "images" / "latent_explorer.html").read_text(encoding="utf-8")
    script = (ROOM / "explorer.js").read_text(encoding="utf-8").replace("export default", "const explorer =")
    state = json.loads(re.search(r'getElementById\("explorer"\), (\{.*\})\);\n', page)[1])
    layers = {"weights": _page_decoder(vae), "alone_weights": _page_decoder(alone)}
    shipped = {
        name: torch.cat([each.detach().flatten() for each in layer.parameters()]) for name, layer in layers.items()
    }

    assert script in page
    for name, weights in shipped.items():
        assert base64.b64decode(state[name]) == weights.half().numpy().tobytes(), name
    assert _encoder_state(vae).items() <= state.items()


def test_a_failed_save_leaves_the_old_page(explorer, tmp_path, monkeypatch):
    explorer.save(tmp_path / "page.html")
    before = (tmp_path / "page.html").read_bytes()
    monkeypatch.setattr(storage.os, "replace", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        explorer.save(tmp_path / "page.html")

    assert os.listdir(tmp_path) == ["page.html"] and (tmp_path / "page.html").read_bytes() == before


# a browser


def no_browser(reason):
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def chromium(playwright):
    """Start the system's Chromium, or Playwright's own; None where there is neither."""
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    path = next(found, playwright.chromium.executable_path)
    return playwright.chromium.launch(executable_path=path, args=FLAGS) if Path(path).exists() else None


@pytest.fixture(scope="module")
def browser():
    if importlib.util.find_spec("playwright") is None:
        no_browser("playwright is not installed: pip install -r requirements.txt")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = chromium(playwright)
        if browser is None:
            no_browser("no Chromium: apt-get install chromium, or playwright install chromium")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def saved(explorer, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    explorer.save(path)
    return path.as_uri()


@contextlib.contextmanager
def opening(browser, address):
    """Give a function that opens a page where every request is refused but that for the file and for its worker."""
    contexts, wrong = [], []
    allowed = (address, "blob:")

    def open_page(before="", **options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.add_init_script(before)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: None if request.url.startswith(allowed) else wrong.append(request.url))
        contexts[-1].route("**/*", lambda route: route.continue_() if route.request.url == address else route.abort())
        page.goto(address)
        page.locator("canvas.map").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []  # no error and no request


@pytest.fixture
def opened(browser, saved):
    with opening(browser, saved) as open_page:
        yield open_page


def rest(page):
    """Wait until what was asked for is painted."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def position(page):
    rest(page)
    return point(page.locator(".position").inner_text())


def point(text):
    return tuple(map(float, text.replace("−", "-").strip("()").split(",")))


def at(page, x, y):
    """Return where the point (x, y) of the plane is on the screen."""
    box = page.locator("canvas.map").bounding_box()
    side = box["width"] - 2
    return box["x"] + 1 + (x + 4) / 8 * side, box["y"] + 1 + (4 - y) / 8 * side


def slide(page, x, y):
    for slider, value in zip(page.locator(".sliders input").all(), (x, y)):
        slider.evaluate(
            "(slider, value) => (slider.value = value, slider.dispatchEvent(new Event('input')))", f"{value:.2f}"
        )
    rest(page)


def pixels(page):
    rest(page)
    return garment(page, "garment")


def garment(page, name):
    read = "(canvas) => [...canvas.getContext('2d').getImageData(0, 0, 28, 28).data]"
    return levels_of(page.locator(f"canvas.{name}").evaluate(read))


def levels_of(picture):
    """Return the grey levels (784,) of a picture that is opaque and grey."""
    colors = np.array(picture).reshape(784, 4)
    assert (colors[:, 3] == 255).all() and (colors[:, :1] == colors[:, :3]).all()
    return colors[:, 0]


def test_the_picture_is_what_torch_decodes_at_50_random_points(opened, vae):
    page, points = opened(), np.random.default_rng(0).uniform(-4, 4, (50, 2)).round(2).tolist()
    seen = page.evaluate(
        """async (points) => {
          const root = document.querySelector("#explorer div").shadowRoot;
          const frame = () => new Promise((done) => requestAnimationFrame(done));
          const seen = [];
          for (const point of points) {
            root.querySelectorAll(".sliders input").forEach((slider, axis) => {
              slider.value = point[axis].toFixed(2);
              slider.dispatchEvent(new Event("input"));
            });
            await frame().then(frame);
            seen.push([...root.querySelector("canvas.garment").getContext("2d").getImageData(0, 0, 28, 28).data]);
          }
          return seen;
        }""",
        points,
    )
    for z, picture in zip(points, seen, strict=True):
        assert np.abs(levels_of(picture) - grey_levels(vae, z)).max() <= 1


def test_a_click_moves_the_point_there(opened):
    page = opened()
    page.mouse.click(*at(page, 1.5, -2))
    assert position(page) == pytest.approx((1.5, -2), abs=0.02)


def test_a_drag_moves_the_point_all_the_way_and_stays_inside(opened):
    page, seen = opened(), set()
    page.mouse.move(*at(page, -2, 1))
    page.mouse.down()
    for x in np.linspace(-2, 2, 9):
        page.mouse.move(*at(page, x, 1))
        seen.add(position(page))
    assert len(seen) == 9 and position(page) == pytest.approx((2, 1), abs=0.02)
    page.mouse.move(*at(page, 6, -5))
    assert position(page) == (4, -4)
    page.mouse.up()
    page.mouse.move(*at(page, 0, 0))
    assert position(page) == (4, -4)


def test_a_finger_drags_the_point(opened):
    page = opened(has_touch=True, viewport={"width": 360, "height": 740})
    touch = page.context.new_cdp_session(page)
    for kind, place in (("touchStart", (-2, 1)), ("touchMove", (0, 0)), ("touchMove", (1, 2)), ("touchEnd", None)):
        there = [dict(zip("xy", at(page, *place)))] if place else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": there})
    assert position(page) == pytest.approx((1, 2), abs=0.03)
    page.touchscreen.tap(*at(page, -1, -1))
    assert position(page) == pytest.approx((-1, -1), abs=0.03)


def test_the_keyboard_alone_does_everything(opened):
    page, press = opened(), lambda *keys: [page.keyboard.press(key) for key in keys]
    press("Tab", "ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowDown", "Shift+ArrowLeft")
    assert position(page) == (-0.4, -0.45)
    press("Tab", "ArrowRight", "ArrowRight")
    assert position(page) == (-0.38, -0.45)
    press("Tab", "Home")
    assert position(page) == (-0.38, -4)
    press("Tab", "Enter")  # surprise me
    assert position(page) != (-0.38, -4)
    start = position(page)
    press("Tab", "Enter", "Shift+Tab", "Shift+Tab", "End", "Tab", "Tab", "Tab", "Space", "Tab", "Enter")  # A, B, walk
    page.get_by_role("button", name="Stop").wait_for()
    press("Escape")
    page.get_by_role("button", name="Walk A to B").wait_for()
    assert position(page)[0] == pytest.approx(start[0], abs=0.01)  # between A and B, which differ in z₂ alone


def test_the_sliders_move_the_point_and_follow_it(opened):
    page = opened()
    slide(page, -1.25, 3.5)
    assert position(page) == (-1.25, 3.5)
    page.mouse.click(*at(page, 2, 1))
    there = position(page)
    assert [float(slider.input_value()) for slider in page.locator(".sliders input").all()] == list(there)


def test_surprise_me_draws_from_the_prior(opened):
    seen = opened().evaluate(
        """async () => {
          const root = document.querySelector("#explorer div").shadowRoot;
          const seen = [];
          for (let i = 0; i < 100; i++) {
            root.querySelector(".surprise").click();
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            seen.push(root.querySelector(".position").textContent);
          }
          return seen;
        }"""
    )
    draws = np.array(list(map(point, seen)))
    assert np.abs(draws.mean(0)).max() < 0.45 and 0.7 < draws.std() < 1.3  # 4.5 and 6 standard errors
    assert np.abs(draws).max() > 1.8  # which one of 200 normal numbers is but for 3 times in 10 million


def stop_the_clock(page):
    """From here on time passes in `page.clock.run_for` only, so a busy machine has as many frames as a quiet one."""
    page.clock.install(time=0)
    page.clock.pause_at(60_000)


def test_the_walk_runs_from_a_to_b_in_about_four_seconds(opened):
    page = opened()
    for button, z in (("button.set-a", (-3, 0)), ("button.set-b", (1, 2))):
        slide(page, *z)
        page.click(button)
    page.locator(".position").evaluate(
        "(text) => (window.seen = [], new MutationObserver(() => seen.push(text.textContent))"
        ".observe(text, {childList: true, characterData: true, subtree: true}))"
    )
    stop_the_clock(page)
    page.get_by_role("button", name="Walk A to B").click()
    page.clock.run_for(3900)
    assert page.locator(".play").inner_text().endswith("Stop")
    page.clock.run_for(200)
    assert page.locator(".play").inner_text().endswith("Walk A to B")
    seen = [point(text) for text in page.evaluate("seen")]
    assert len(seen) > 100 and seen[-1] == (1, 2) and all(abs(y - (x + 3) / 2) < 0.02 for x, y in seen)  # on the line
    assert [x for x, _ in seen] == sorted(x for x, _ in seen)


def test_a_touch_of_the_map_stops_the_walk(opened):
    page = opened()
    page.click("button.play")
    page.mouse.click(*at(page, 3, 3))
    assert page.locator(".play").inner_text().endswith("Walk A to B")
    page.wait_for_timeout(200)
    assert position(page) == pytest.approx((3, 3), abs=0.02)


def test_readers_who_want_less_motion_get_a_walk_in_nine_steps(opened):
    page = opened(reduced_motion="reduce")
    stop_the_clock(page)
    page.click("button.play")
    seen = []
    for _ in range(42):
        page.clock.run_for(100)
        seen.append(point(page.locator(".position").inner_text()))
    assert page.locator(".play").inner_text().endswith("Walk A to B")
    assert len(set(seen)) == 9 and seen[-1] == (2, -1.5)


def test_the_page_says_in_words_where_the_point_is(opened, points):
    page = opened()
    slide(page, 1.5, -0.2)
    distance = (points[0] - torch.tensor([1.5, -0.2])).norm(dim=1)
    votes = points[1][distance.argsort()[:5]].bincount()
    share = f"{100 * np.exp(-(1.5**2 + 0.2**2) / 2):.0f} % of draws fall farther out"

    assert page.locator(".nearest").inner_text() == f"{helpers.CLASSES[votes.argmax()]}, {votes.max()} of 5"
    assert page.locator(".prior").inner_text() == share
    spoken = page.get_by_role("status")
    spoken.filter(has_text="(1.50, −0.20)").wait_for()
    assert share in spoken.inner_text() and "(1.50, −0.20)" in page.locator(".garment").get_attribute("aria-label")
    slide(page, 4, 4)
    assert page.locator(".prior").inner_text() == "fewer than 0.1 % of draws fall farther out"
    slide(page, -0.001, 0.004)
    assert page.locator(".position").inner_text() == "(0.00, 0.00)"


def test_a_screen_reader_is_not_flooded_during_a_drag(opened):
    page = opened()
    page.locator(".spoken").evaluate(
        "(element) => (window.said = [], new MutationObserver(() => said.push(1)).observe(element, {childList: true}))"
    )
    place = [at(page, x, 1) for x in np.linspace(-2, 2, 30)]
    page.clock.install()  # on a busy machine the moves are seconds apart
    page.mouse.move(*place[0])
    page.mouse.down()
    for there in place:
        page.mouse.move(*there)
        page.clock.run_for(20)
    page.mouse.up()
    page.clock.run_for(900)
    assert 1 <= page.evaluate("said.length") <= 2


def rules_that_axe_core_passes(page, *options):
    """Check that axe-core finds no violation in the page, and return how many rules have something to pass."""
    if importlib.util.find_spec("axe_playwright_python") is None:
        no_browser("axe-playwright-python is not installed: pip install -r requirements.txt")
    from axe_playwright_python.sync_playwright import Axe

    results = Axe().run(page, *options).response
    assert [(found["id"], found["nodes"][0]["html"]) for found in results["violations"]] == []
    return len(results["passes"])


def check_by_axe_core(page):
    """Check at three widths what axe-core finds, and that nothing is wider than the screen."""
    for width in (320, 768, 1280):
        page.set_viewport_size({"width": width, "height": 700})
        rest(page)

        assert rules_that_axe_core_passes(page) > 10
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_finds_nothing_and_nothing_is_wider_than_the_screen(opened, scheme):
    check_by_axe_core(opened(color_scheme=scheme, bypass_csp=True))


def test_the_page_follows_the_width_of_its_window(opened):
    page, sides = opened(), {}
    for width in (1280, 768, 320, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        rest(page)
        sides[width] = [page.locator(f"canvas.{name}").bounding_box()["width"] for name in ("map", "garment")]
        page.mouse.click(*at(page, -1, 2))
        assert position(page) == pytest.approx((-1, 2), abs=0.03)
        drawn = page.locator("canvas.map").evaluate("(map) => [map.width, map.clientWidth * devicePixelRatio]")
        assert drawn[0] == pytest.approx(drawn[1], abs=1)
    assert sides[1280][0] == sides[1280][1] > 500 and sides[768][0] == sides[768][1] and sides[320][0] > 280


def map_pixels(page):
    page.wait_for_timeout(100)
    rest(page)
    png = page.locator("canvas.map").evaluate("(map) => map.toDataURL()").partition(",")[2]
    return np.array(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")).reshape(-1, 3)


def test_the_map_has_the_colours_of_the_classes_and_follows_the_theme(opened):
    page = opened()
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found[scheme] = map_pixels(page)
    corner = {scheme: colors[2000].mean() for scheme, colors in found.items()}
    assert corner["light"] == 255 and corner["dark"] < 40
    wanted = [int(color[1:3], 16) * 0.75 + 255 * 0.25 for color in COLORS]  # red, on white paper at 75 %
    reds = set(found["light"][:, 0].tolist())
    assert all(reds & {round(red) - 1, round(red), round(red) + 1} for red in wanted)


def framed(page):
    """Return the classes whose colour, which dots have only in part, is on the map: those of the frames of names."""
    colors = set(map(tuple, map_pixels(page).tolist()))
    return [label for label, color in enumerate(COLORS) if tuple(bytes.fromhex(color[1:])) in colors]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_name_on_the_map_has_a_frame_of_its_classs_colour(opened, points, scheme):
    page = opened(color_scheme=scheme)
    assert framed(page) == points[1].unique().tolist()


# the pen


@pytest.fixture(scope="module")
def alone():
    return helpers.load_vae(storage.ROOT / "checkpoints" / "decoder_alone.pt")


@pytest.fixture(scope="module")
def test_images():
    x, labels = helpers.load_fashion_mnist("test")
    return x[:600], labels[:600]


@pytest.fixture(scope="module")
def penned(vae, alone, test_images):
    x, labels = test_images
    return latent_explorer(vae, helpers.encode(vae, x)[0], labels, images=x, alone=alone)


@pytest.fixture(scope="module")
def fifty():
    return helpers.load_fashion_mnist("test")[0][1000:6000:100]


@pytest.fixture(scope="module")
def penned_page(penned, fifty, tmp_path_factory):
    """The page, to start from fifty images that nobody chose."""
    path, before = tmp_path_factory.mktemp("pen") / "page.html", (penned.images, penned.image_names)
    penned.images, penned.image_names = _bytes64(fifty), [f"Test: {i}" for i in range(len(fifty))]
    penned.save(path)
    penned.images, penned.image_names = before
    return path.as_uri()


@pytest.fixture
def drawing(browser, penned_page):
    """A function that opens the page and takes the pen."""
    with opening(browser, penned_page) as open_page:

        def take_the_pen(**options):
            page = open_page(**options)
            page.get_by_role("button", name="Draw").click()
            return page

        yield take_the_pen


def found(page):
    """Wait until the islands are refined, and return what the page then knows."""
    page.locator(".explorer[data-settled=true]").wait_for(timeout=60_000)
    return json.loads(page.locator(".explorer").get_attribute("data-found"))


def on_the_pad(page):
    """Return the image that is drawn (1, 784), as it is seen."""
    rest(page)
    read = """(pad) => {
      const { data } = pad.getContext("2d").getImageData(0, 0, 336, 336);
      return Array.from({ length: 784 }, (_, i) => data[4 * (336 * (12 * Math.floor(i / 28) + 6) + 12 * (i % 28) + 6)]);
    }"""
    return (255 - torch.tensor(page.locator("canvas.pad").evaluate(read), dtype=torch.float32))[None] / 255


def scribble(page, draws, strokes=4):
    """Draw lines, each with a width and an ink of its own."""
    box = page.locator("canvas.pad").bounding_box()
    for _ in range(strokes):
        for name, value in (("ink", 5 * draws.integers(4, 21)), ("width", draws.integers(1, 8))):
            change = "(input, value) => (input.value = value, input.dispatchEvent(new Event('input')))"
            page.locator(f"input.{name}").evaluate(change, str(value))
        places = (
            box["x"] + box["width"] * draws.uniform(0.1, 0.9, 2),
            box["y"] + box["height"] * draws.uniform(0.1, 0.9, 2),
        )
        page.mouse.move(places[0][0], places[1][0])
        page.mouse.down()
        page.mouse.move(places[0][1], places[1][1], steps=8)
        page.mouse.up()


def ten_drawings(page):
    """Give ten images that are scribbled on an empty pad or on a test image, one after the other."""
    draws = np.random.default_rng(0)
    for i in range(10):
        page.locator(".start").select_option(["", str(i)][i % 2])
        scribble(page, draws)
        yield on_the_pad(page)


def check_against_torch(page, model, x):
    """Compare all that the page found for the image x with what torch and exact.py find, and return it."""
    known = found(page)
    assert known["decoder"] == "of the VAE"
    mean, logvar = helpers.encode(model, x)
    np.testing.assert_allclose(known["mean"], mean[0], atol=0.01)
    np.testing.assert_allclose(known["logvar"], logvar[0], atol=0.02)
    assert known["floor"] == pytest.approx(helpers.cross_entropy(x, x).item(), abs=0.01)
    for name, z in (("at-code", known["mean"]), ("at-peak", known["peak"])):
        assert np.abs(garment(page, name) - grey_levels(model, z)).max() <= 1
    return known


@pytest.fixture(scope="module")
def log_p_of_fifty(vae, fifty):
    return exact.log_likelihood(vae, fifty)


SWITCH = """(names) => {
  const root = document.querySelector("#explorer div").shadowRoot;
  const select = root.querySelector(".decoder");
  select.value = "1";
  select.dispatchEvent(new Event("change"));
  const words = getComputedStyle(root.querySelector(".words")).visibility;
  return [...names.map((name) => root.querySelector(name).textContent), words];
}"""


def test_what_is_found_is_what_exact_and_torch_find_and_goes_with_its_decoder(drawing, vae, fifty, log_p_of_fifty):
    """Of 50 test images and ten drawings."""
    page, elbo = drawing(), exact.elbo(vae, fifty)
    for i in range(50):
        page.locator(".start").select_option(str(i))
        known = check_against_torch(page, vae, fifty[i : i + 1])
        assert known["log_p"] == pytest.approx(log_p_of_fifty[i].item(), abs=0.05)
        assert known["elbo"] == pytest.approx(elbo[i].item(), abs=0.1)  # of far nodes, where one nat is little
    pictures, known = [], []
    for x in ten_drawings(page):
        pictures.append(x)
        known.append(check_against_torch(page, vae, x))
    assert len({tuple(x[0].tolist()) for x in pictures}) == 10
    log_p = exact.log_likelihood(vae, torch.cat(pictures))
    np.testing.assert_allclose([one["log_p"] for one in known], log_p, atol=0.05)

    names = [f".{name}" for name in ("log-p", "floor", "elbo", "gap", "mean", "top")]
    assert page.evaluate(SWITCH, names) == ["…"] * 6 + ["hidden"]


FINE = {"size": 500, "refine": 8}  # the decoder without an encoder has posteriors far narrower than those of the VAE


def test_the_decoder_without_an_encoder_has_a_posterior_and_no_ellipse(drawing, alone, fifty):
    """Of 50 test images and ten drawings."""
    page = drawing()
    page.locator(".decoder").select_option("1")
    log_p = exact.log_likelihood(alone, fifty, **FINE)
    for i in range(50):
        page.locator(".start").select_option(str(i))
        known = found(page)
        assert known["log_p"] == pytest.approx(log_p[i].item(), abs=0.05)
        assert np.abs(garment(page, "at-peak") - grey_levels(alone, known["peak"])).max() <= 1
    assert "mean" not in known and page.locator(".at-code").is_hidden()
    assert known["decoder"] == "trained without an encoder"
    assert "This decoder has no encoder" in page.locator(".words").inner_text()
    assert page.locator(".elbo").inner_text() == page.locator(".gap").inner_text() == "none without an encoder"
    assert page.locator(".mean").inner_text() == "no encoder"
    pictures, known = [], []
    for x in ten_drawings(page):
        pictures.append(x)
        known.append(found(page)["log_p"])
    np.testing.assert_allclose(known, exact.log_likelihood(alone, torch.cat(pictures), **FINE), atol=0.05)


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    if BINARY is None:
        (no_browser if sys.platform == "linux" else pytest.skip)("no Firefox: apt-get install firefox-esr")
    firefox = Firefox(tmp_path_factory.mktemp("firefox"))
    yield firefox
    firefox.close()


IN_FIREFOX = """
  window.wrong = [];
  addEventListener("error", (event) => wrong.push(event.message));
  window.$ = (name) => document.querySelector("#explorer div").shadowRoot.querySelector(name);
  window.place = (name) => {
    $(name).scrollIntoView({ block: "center" });
    const { left, top, width, height } = $(name).getBoundingClientRect();
    return { left, top, width, height };
  };
  window.settle = async (change) => {
    change?.();
    await new Promise((done) => setTimeout(done, 300));
    while (!$(".explorer[data-settled=true]")) await new Promise((done) => setTimeout(done, 50));
    return JSON.parse($(".explorer").dataset.found);
  };
"""


def test_in_firefox_the_page_decodes_draws_and_finds_what_exact_and_torch_find(
    firefox, penned_page, vae, fifty, log_p_of_fifty
):
    firefox.open(penned_page)
    firefox.run(f"(() => {{ {IN_FIREFOX} }})()")
    box = firefox.run('place("canvas.map")')
    middle = box["left"] + box["width"] / 2, box["top"] + box["height"] / 2
    firefox.drag(middle, (middle[0] + box["width"] / 8, middle[1] - box["height"] / 8))
    firefox.press("\ue014")  # the right arrow
    firefox.run("new Promise((done) => setTimeout(done, 300))")
    z = [float(value) for value in firefox.run('$(".position").textContent').replace("−", "-").strip("()").split(",")]
    assert z == pytest.approx([1.05, 1], abs=0.02)
    seen = firefox.run('[...$(".garment").getContext("2d").getImageData(0, 0, 28, 28).data]')
    assert np.abs(np.array(seen).reshape(784, 4)[:, 0] - grey_levels(vae, z)).max() <= 1 + 255 * 0.005

    firefox.run('$(".to-draw").click()')
    elbo = exact.elbo(vae, fifty[:5])
    mean, logvar = helpers.encode(vae, fifty[:5])
    for i in range(5):
        known = firefox.run(f'settle(() => ($(".start").value = {i}, $(".start").dispatchEvent(new Event("change"))))')
        assert known["log_p"] == pytest.approx(log_p_of_fifty[i].item(), abs=0.05)
        assert known["elbo"] == pytest.approx(elbo[i].item(), abs=0.1)
        np.testing.assert_allclose(known["mean"], mean[i], atol=0.01)
        np.testing.assert_allclose(known["logvar"], logvar[i], atol=0.02)
    pad = firefox.run('place("canvas.pad")')
    ends = [(pad["left"] + pad["width"] * x, pad["top"] + pad["height"] * y) for x, y in ((0.2, 0.2), (0.8, 0.8))]
    firefox.drag(*ends)
    drawn = firefox.run("settle()")
    assert drawn["log_p"] < known["log_p"] - 1 and firefox.run("wrong") == []


WORKERS = {  # what is done before the page begins, and whether it then has workers that answer
    "none": ("delete window.Worker", False),
    "that fail": (
        """window.Worker = class {
          constructor() { setTimeout(() => this.onerror()); }
          postMessage() {}
          terminate() {}
        }""",
        False,
    ),
    "one": ("Object.defineProperty(navigator, 'hardwareConcurrency', { value: 1 })", True),
    "four": ("Object.defineProperty(navigator, 'hardwareConcurrency', { value: 64 })", True),
}
COUNT_ANSWERS = """; window.answers = 0;
if (window.Worker) window.Worker = class extends Worker {
  constructor(...given) {
    super(...given);
    this.addEventListener?.("message", () => answers++);
  }
}"""


@pytest.mark.parametrize(("before", "work"), WORKERS.values(), ids=WORKERS)
def test_with_other_workers_the_page_finds_the_same(drawing, log_p_of_fifty, before, work):
    page = drawing(before=before + COUNT_ANSWERS)
    page.locator(".start").select_option("3")
    assert found(page)["log_p"] == pytest.approx(log_p_of_fifty[3].item(), abs=0.05)
    assert (page.evaluate("answers") > 100) == work


IDLE = "window.Worker = class { postMessage() {} terminate() {} }"  # where nothing is to be found, and the pen is all


def test_under_the_pen_names_step_back_as_the_cloud_does_and_return(drawing):
    page = drawing(before=IDLE)
    assert framed(page) == []
    page.get_by_role("button", name="Drag").click()
    assert framed(page) == list(range(10))


def test_brush_eraser_undo_and_clear_do_what_they_say(drawing):
    page = drawing(before=IDLE)
    assert on_the_pad(page).max() == 0
    scribble(page, np.random.default_rng(1), strokes=1)
    first = on_the_pad(page)
    assert first.max() > 0
    scribble(page, np.random.default_rng(2), strokes=1)
    assert not on_the_pad(page).equal(first)
    page.get_by_role("button", name="Undo").click()
    assert on_the_pad(page).equal(first)
    page.get_by_role("button", name="Eraser").click()
    scribble(page, np.random.default_rng(1), strokes=1)
    assert on_the_pad(page).max() == 0
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Clear").click()
    assert on_the_pad(page).max() == 0
    page.get_by_role("button", name="Undo").click()
    assert on_the_pad(page).equal(first)


def test_the_keyboard_alone_draws(browser, penned_page):
    with opening(browser, penned_page) as open_page:
        page = open_page()
        press = lambda *keys: [page.keyboard.press(key) for key in keys]  # noqa: E731
        press("Tab", "Tab", "Enter")  # Draw
        page.locator(".width").wait_for()
        press("Tab", "Tab", "Tab")  # the decoders, the map, the pad
        assert page.evaluate("document.querySelector('#explorer div').shadowRoot.activeElement.className").startswith(
            "pad"
        )
        press("Space")
        dot = on_the_pad(page).view(28, 28)
        assert dot[14, 14] == dot[13, 14] == dot[14, 13] == pytest.approx(0.8) and (dot > 0).sum() == 9
        press("Shift+ArrowRight", "Shift+ArrowRight", "ArrowDown")
        assert (on_the_pad(page) > 0).sum() == 15
        page.get_by_role("status").filter(has_text="Row 16, column 17, ink 80 %.").wait_for()
        found(page)
        press("e")
        page.get_by_role("status").filter(has_text="Eraser.").wait_for()
        press("Enter")
        page.get_by_role("status").filter(has_text="Row 16, column 17, ink 0 %.").wait_for()
        assert (on_the_pad(page) > 0).sum() == 9
        press("u", "Control+z")
        assert (on_the_pad(page) > 0).sum() == 12
        press("Tab", "ArrowDown", "ArrowDown")  # the empty pad, the first image
        assert on_the_pad(page).max() > 0.5
        assert found(page)["log_p"] < 0


def test_a_finger_and_a_stylus_draw(drawing):
    page = drawing(before=IDLE, has_touch=True, viewport={"width": 360, "height": 740})
    touch, box = page.context.new_cdp_session(page), page.locator("canvas.pad").bounding_box()
    for kind, place in (("touchStart", 0.3), ("touchMove", 0.5), ("touchMove", 0.7), ("touchEnd", None)):
        there = [{"x": box["x"] + place * box["width"], "y": box["y"] + box["height"] / 2}] if place else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": there})
    row = on_the_pad(page).view(28, 28)[14]
    assert (row[9:19] > 0).all() and (row[:6] == 0).all() and (row[22:] == 0).all()
    place = {"x": box["x"] + 0.5 * box["width"], "y": box["y"] + 0.2 * box["height"], "button": "left", "clickCount": 1}
    for kind in ("mousePressed", "mouseReleased"):
        touch.send("Input.dispatchMouseEvent", {"type": kind, "pointerType": "pen", "force": 0.5, **place})
    assert on_the_pad(page).view(28, 28)[5, 14] > 0
    page.locator("canvas.pad").evaluate(
        """(pad, place) => {
          pad.setPointerCapture = () => {}; // of a pointer that the browser knows
          const [clientX, clientY] = [place.x - scrollX, place.y - scrollY];
          const turned = { pointerType: "pen", isPrimary: true, button: 5, buttons: 32, clientX, clientY };
          pad.dispatchEvent(new PointerEvent("pointerdown", turned));
        }""",
        place,
    )
    assert on_the_pad(page).view(28, 28)[5, 14] == 0


def test_dragging_still_decodes_while_the_pen_is_out(drawing, vae):
    page = drawing(before=IDLE)
    page.mouse.click(*at(page, 1.5, -2))
    assert np.abs(pixels(page) - grey_levels(vae, position(page))).max() <= 1
    assert position(page) == pytest.approx((1.5, -2), abs=0.02)
    page.get_by_role("button", name="Drag").click()
    assert page.locator("canvas.pad").is_hidden() and page.get_by_role("button", name="Surprise me").is_visible()


def test_what_was_found_is_said_in_words_once_the_pen_rests(drawing):
    page = drawing()
    found(page)
    page.wait_for_timeout(700)
    page.locator(".spoken").evaluate(
        "(element) => (window.said = [], new MutationObserver(() => said.push(1)).observe(element, {childList: true}))"
    )
    scribble(page, np.random.default_rng(0), strokes=2)
    known, words = found(page), page.locator(".words").inner_text()
    page.wait_for_timeout(700)
    assert f"log p(x) {known['log_p']:.2f} nats".replace("-", "−") in words and f"{known['floor']:.2f} nats" in words
    assert f"ELBO {known['elbo']:.2f} nats, gap {known['log_p'] - known['elbo']:.2f} nats".replace("-", "−") in words
    assert re.search(r"The posterior (is one island|has \d+ islands)", words) and "its ellipse holds" in words
    assert page.locator(".spoken").inner_text() == words and page.evaluate("said.length") == 1
    assert sum(share for share, *_ in known["islands"]) == pytest.approx(0.99, abs=0.011)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_finds_nothing_beside_the_pen(drawing, scheme):
    page = drawing(color_scheme=scheme, bypass_csp=True)
    page.locator(".start").select_option("0")
    found(page)
    check_by_axe_core(page)


def test_what_the_pen_says_is_not_talked_over_by_a_point_that_stays(drawing):
    page = drawing()
    page.mouse.click(*at(page, 1, 1))
    page.locator(".start").select_option("3")
    found(page)
    page.wait_for_timeout(900)
    assert page.locator(".spoken").inner_text() == page.locator(".words").inner_text()
    page.locator("canvas.pad").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(900)
    assert page.locator(".spoken").inner_text().startswith("Row 15, column 14")


def test_the_image_that_one_started_from_can_be_chosen_again(drawing):
    page = drawing(before=IDLE)
    page.locator(".start").select_option("3")
    first = on_the_pad(page)
    scribble(page, np.random.default_rng(0), strokes=1)
    assert page.locator(".start").input_value() == "own"
    page.locator(".start").select_option("3")
    assert on_the_pad(page).equal(first)
    scribble(page, np.random.default_rng(0), strokes=1)
    page.get_by_role("button", name="Undo").click()
    assert page.locator(".start").input_value() == "3"
    page.get_by_role("button", name="Clear").click()
    assert page.locator(".start").input_value() == ""


def test_a_pressed_button_looks_pressed_in_the_colours_of_a_high_contrast_theme(drawing):
    page = drawing(before=IDLE, forced_colors="active")
    look = "(button) => getComputedStyle(button).color"  # their backgrounds differ in transparency alone
    pressed, not_pressed = (page.locator(f".{name}").evaluate(look) for name in ("brush", "eraser"))
    assert pressed != not_pressed
    page.locator(".eraser").click()
    assert [page.locator(f".{name}").evaluate(look) for name in ("brush", "eraser")] == [not_pressed, pressed]


def test_on_a_phone_held_sideways_there_is_room_to_scroll(drawing):
    page = drawing(before=IDLE, viewport={"width": 844, "height": 390}, has_touch=True, is_mobile=True)
    sides = [page.locator(f"canvas.{name}").bounding_box()["width"] for name in ("map", "pad")]
    assert sides[0] == pytest.approx(sides[1]) and 250 < sides[0] < 0.8 * 390


def test_strokes_that_change_nothing_need_no_undo(drawing):
    page = drawing(before=IDLE)
    page.locator("canvas.pad").focus()
    for key in ["Space"] * 60 + ["ArrowDown"] * 9 + ["Space"] * 60 + ["u"] * 2:
        page.keyboard.press(key)
    assert on_the_pad(page).max() == 0


def test_fifty_strokes_can_be_undone(drawing):
    page = drawing(before=IDLE)
    page.locator("input.width").evaluate("(input) => (input.value = 1, input.dispatchEvent(new Event('input')))")
    page.locator("canvas.pad").focus()
    for direction in ("Right", "Left", "Right", "Left"):
        for key in ["Space", f"Arrow{direction}"] * 13 + ["ArrowDown"]:
            page.keyboard.press(key)
    assert (on_the_pad(page) > 0).sum() == 52
    for _ in range(60):
        page.keyboard.press("u")
    assert (on_the_pad(page) > 0).sum() == 2


@pytest.fixture
def as_widget(browser, tmp_path):
    """A function that opens an explorer as a notebook does, with a model that the test has in its hands."""
    host = """function widget(state) {
      const heard = new EventTarget();
      let unsent = {};
      window.python = (name, value) => { // as ipywidgets: what the page has not sent yet stays to be sent
        if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
        state[name] = value;
        heard.dispatchEvent(new Event(`change:${name}`));
      };
      const set = (name, value) => ((unsent[name] = value), python(name, value));
      const save_changes = () => (Object.entries(unsent).forEach((each) => python(...each)), (unsent = {}));
      const [on, off] = [heard.addEventListener.bind(heard), heard.removeEventListener.bind(heard)];
      window.model = { get: (name) => state[name], set, on, off, save_changes };
      window.show = (el) => explorer.render({ model, el });
      show(document.getElementById("explorer"));
    }
    widget("""
    path = tmp_path / "widget.html"
    with opening(browser, path.as_uri()) as open_page:

        def open_widget(explorer):
            page = explorer.save(path).read_text(encoding="utf-8")
            before, mount, after = page.rpartition('explorer.mount(document.getElementById("explorer"), ')
            assert mount
            path.write_text(before + host + after, encoding="utf-8")
            return open_page()

        yield open_widget


def test_other_labels_alone_change_the_names_and_the_colours(as_widget, explorer, points):
    page = as_widget(explorer)
    before, picture = page.locator(".nearest").inner_text(), "(map) => map.toDataURL()"
    colours = page.locator("canvas.map").evaluate(picture)
    other = base64.b64encode(bytes(((points[1] + 1) % 10).tolist())).decode()
    page.evaluate("(labels) => model.set('labels', labels)", other)
    rest(page)
    name = helpers.CLASSES[(helpers.CLASSES.index(before.partition(",")[0]) + 1) % 10]
    page.locator(".nearest", has_text=name).wait_for()
    assert page.locator("canvas.map").evaluate(picture) != colours


def test_an_echo_of_where_the_point_was_does_not_move_it_back(as_widget, explorer):
    page = as_widget(explorer)
    page.locator("canvas.map").focus()
    stop_the_clock(page)
    start = page.evaluate("model.get('z')")
    page.keyboard.press("ArrowRight")
    for _ in range(3):
        page.clock.run_for(200)
        sent = page.evaluate("model.get('z')")
        page.keyboard.press("ArrowRight")
        page.clock.run_for(50)
        page.evaluate("(z) => python('z', [...z])", sent)  # as a kernel answers that got it late
    page.clock.run_for(200)
    assert page.evaluate("model.get('z')") == pytest.approx([start[0] + 0.2, start[1]])
    page.evaluate("python('z', [1, 1])")  # what Python sets while nobody moves
    page.clock.run_for(200)
    assert page.evaluate("model.get('z')") == [1, 1]


@pytest.mark.parametrize("place", [(3, 3), (1, 2)])
def test_python_stops_a_walk_and_its_point_stays(as_widget, explorer, place):
    page = as_widget(explorer)
    for visited in ((1, 2), (-1, -1)):
        page.mouse.click(*at(page, *visited))
        page.wait_for_timeout(300)
    page.get_by_role("button", name="Walk A to B").click()
    page.get_by_role("button", name="Stop").wait_for()
    page.wait_for_timeout(300)
    page.evaluate("(z) => python('z', z)", place)
    page.get_by_role("button", name="Walk A to B").wait_for()
    page.wait_for_timeout(300)
    assert page.evaluate("model.get('z')") == list(place) and position(page) == place


def test_two_views_of_one_explorer_show_the_same_point_and_the_last_one_moved_wins(as_widget, explorer):
    page = as_widget(explorer)
    page.evaluate("void show(document.body.appendChild(document.createElement('div')))")
    page.get_by_role("button", name="Walk A to B").first.click()
    page.wait_for_timeout(300)
    page.locator(".surprise").last.click()
    page.wait_for_timeout(300)
    first, second = page.locator(".position").all_inner_texts()
    assert first == second and page.get_by_role("button", name="Walk A to B").count() == 2
    assert point(first) == pytest.approx(page.evaluate("model.get('z')"), abs=0.006)


@pytest.mark.parametrize("style", ["transform: scale(0.6); transform-origin: 0 0", "zoom: 1.3"])
def test_a_click_finds_its_point_on_a_slide_that_is_scaled(opened, style):
    page = opened()
    page.evaluate("(style) => document.body.style.cssText += style", style)
    page.wait_for_timeout(100)
    box = page.locator("canvas.map").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    assert position(page) == pytest.approx((2, 2), abs=0.05)


def test_what_changes_while_the_explorer_is_hidden_shows_when_it_comes_back(as_widget, explorer):
    page = as_widget(explorer)
    picture = "(map) => map.toDataURL()"
    before = page.locator("canvas.map").evaluate(picture)
    codes = base64.b64encode(base64.b64decode(explorer.codes)[::-1]).decode()  # other places, whatever they are
    page.evaluate(
        """(codes) => {
          document.getElementById("explorer").style.display = "none";
          document.body.dataset.jpThemeLight = "false";
          model.set("codes", codes);
        }""",
        codes,
    )
    page.wait_for_timeout(100)
    page.evaluate("document.getElementById('explorer').style.display = ''")
    page.wait_for_timeout(100)
    rest(page)
    shown = page.locator("canvas.map").evaluate(picture)
    page.evaluate("model.set('codes', model.get('codes'))")  # painted anew, it is the same
    page.wait_for_timeout(100)
    rest(page)
    assert before != shown == page.locator("canvas.map").evaluate(picture)


def test_redo_and_view_source_are_no_undo(drawing):
    page = drawing(before=IDLE)
    scribble(page, np.random.default_rng(0), strokes=1)
    drawn = on_the_pad(page)
    page.locator("canvas.pad").focus()
    page.locator("canvas.pad").evaluate(
        """(pad) => {
          const press = (key, more) => pad.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, ...more }));
          press("z", { ctrlKey: true, shiftKey: true });
          press("u", { ctrlKey: true });
        }"""
    )
    assert on_the_pad(page).equal(drawn)
    page.keyboard.press("Control+z")
    assert on_the_pad(page).max() == 0


def test_a_look_at_the_empty_pad_is_no_drawing(as_widget, penned):
    page = as_widget(penned)
    page.get_by_role("button", name="Draw").click()
    found(page)
    assert page.evaluate("model.get('drawing')") == ""
    scribble(page, np.random.default_rng(0), strokes=1)
    found(page)
    assert len(base64.b64decode(page.evaluate("model.get('drawing')"))) == 784
    page.get_by_role("button", name="Clear").click()
    found(page)
    assert not any(base64.b64decode(page.evaluate("model.get('drawing')")))


def test_the_map_follows_a_change_between_two_dark_themes(as_widget, explorer):
    page = as_widget(explorer)
    corner = "(map) => [...map.getContext('2d').getImageData(2, 2, 1, 1).data].slice(0, 3)"
    for number in (17, 43):
        page.evaluate(
            """(number) => {
              document.documentElement.style.setProperty("--jp-layout-color0", `rgb(${number}, 0, 0)`);
              Object.assign(document.body.dataset, { jpThemeLight: "false", jpThemeName: `Dark ${number}` });
            }""",
            number,
        )
        page.wait_for_timeout(100)
        rest(page)
        assert page.locator("canvas.map").evaluate(corner) == [number, 0, 0]


@pytest.mark.parametrize(
    ("element", "name", "values"),
    [
        ("body", "data-vscode-theme-kind", ("vscode-dark", "vscode-high-contrast", "vscode-light")),
        ("documentElement", "theme", ("dark", "light")),  # Colab
        ("body", "data-jp-theme-light", ("false", "true")),
    ],
)
def test_the_explorer_is_dark_where_the_notebook_is(as_widget, explorer, element, name, values):
    page = as_widget(explorer)
    for value in values:
        page.evaluate("([element, ...said]) => document[element].setAttribute(...said)", [element, name, value])
        theme = "light" if value in ("vscode-light", "light", "true") else "dark"
        page.locator(f'.explorer[data-theme="{theme}"]').wait_for()


def test_the_images_to_start_from_are_thirty_by_a_rule(penned, vae, test_images):
    names, (x, labels) = penned.image_names, test_images
    index = [int(re.search(r"image ([\d,]+)", name)[1].replace(",", "")) for name in names]
    assert len(names) == len(set(index)) == 30
    assert base64.b64decode(penned.images) == base64.b64decode(_bytes64(x[index]))
    groups = [name.partition(":")[0] for name in names]
    assert [groups.count(name) for name in ("Typical", "Two modes", "Largest gap", "Outsider")] == [10, 8, 6, 6]
    assert all(f": {helpers.CLASSES[labels[i]]}, " in name for i, name in zip(index, names))
    log_p, elbo = exact.log_likelihood(vae, x[index]), exact.elbo(vae, x[index])
    of = {group: [i for i, name in enumerate(groups) if name == group] for group in set(groups)}
    assert (log_p - elbo)[of["Largest gap"]].min() > (log_p - elbo)[of["Typical"]].median()
    above = -log_p - helpers.cross_entropy(x[index], x[index])
    assert above[of["Outsider"]].min() > above[of["Typical"]].max()


def test_with_a_pen_the_page_has_the_encoder_and_the_other_decoder(penned, vae, alone, test_images):
    x, labels = test_images
    other = latent_explorer(alone, plane_peaks(alone, x), labels)
    assert {name: getattr(penned, name) for name in _encoder_state(vae)} == _encoder_state(vae)
    assert (penned.alone_sizes, penned.alone_weights, penned.alone_codes) == (other.sizes, other.weights, other.codes)


def test_an_image_that_is_offered_for_its_two_modes_has_two_islands_on_the_page(browser, penned, tmp_path):
    address = penned.save(tmp_path / "page.html").as_uri()
    with opening(browser, address) as open_page:
        page = open_page()
        page.get_by_role("button", name="Draw").click()
        for i in [i for i, name in enumerate(penned.image_names) if name.startswith("Two modes")][::3]:
            page.locator(".start").select_option(str(i))
            assert len(found(page)["islands"]) > 1
            assert re.search(r"The posterior has \d+ islands: \d+ % around", page.locator(".words").inner_text())


def test_python_puts_an_image_on_the_pad_and_reads_it(penned, test_images):
    x = test_images[0][:1]
    assert penned.drawn().shape == (1, 784) and penned.drawn().max() == 0
    penned.draw(x)
    assert penned.drawn().equal(x) and penned.drawn().dtype == torch.float32
    penned.drawing = ""


@pytest.mark.parametrize(
    "x, message",
    [(torch.zeros(2, 784), r"one image \(1, 784\), received \(2, 784\)"), (torch.zeros(1, 783), "^x: "), (7, "int")],
    ids=["two", "783", "a number"],
)
def test_what_is_no_image_does_not_go_on_the_pad(penned, x, message):
    with pytest.raises(ValueError, match=message):
        penned.draw(x)


def test_an_explorer_without_a_pen_says_so(explorer):
    with pytest.raises(ValueError, match=r"no pen; latent_explorer\(model, codes, labels, images=x\) makes one"):
        explorer.draw(torch.zeros(1, 784))


class Halved(helpers.VAE):
    def encode(self, x):
        mu, logvar = super().encode(x)
        return mu / 2, logvar


class Moved(helpers.VAE):
    """Encodes what its layers do, moved by `mu` and `logvar` along one axis."""

    def __init__(self, mu, logvar):
        super().__init__(hidden=(8,))
        self.by = torch.tensor([[mu, 0.0], [logvar, 0.0]])

    def encode(self, x):
        return tuple(value + by for value, by in zip(super().encode(x), self.by))


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"images": torch.zeros(3, 784)}, "images: expected one for each of 4 codes, received 3"),
        ({"images": torch.zeros(4, 784) + 2}, r"images: expected pixels in \[0, 1\]"),
        ({"images": None, "alone": helpers.VAE(hidden=(8,))}, "images: expected those of the codes where `alone`"),
        ({"model": Halved(hidden=(8,))}, "the two halves of encoder"),
        ({"model": Moved(0.015, 0)}, r"codes 0\.01\d and log variances 0\.00\d off"),
        ({"model": Moved(-0.015, 0)}, r"codes 0\.01\d and log variances 0\.00\d off"),
        ({"model": Moved(0, 0.03)}, r"codes 0\.00\d and log variances 0\.0[23]\d off"),
        ({"model": Moved(0, -0.03)}, r"codes 0\.00\d and log variances 0\.0[23]\d off"),
        ({"alone": Shifted(3)}, "grey levels off"),
    ],
    ids=["few", "two", "none", "another way to encode", "mu", "-mu", "logvar", "-logvar", "alone decodes otherwise"],
)
def test_what_the_pen_cannot_use_is_refused(changed, message):
    draws = torch.Generator().manual_seed(0)
    given = {"model": helpers.VAE(hidden=(8,)), "images": torch.rand(4, 784, generator=draws), **changed}
    with pytest.raises(ValueError, match=message):
        latent_explorer(codes=CODES, labels=LABELS, **given)


def test_a_model_without_an_encoder_has_a_pen_and_no_largest_gaps(alone, test_images):
    x, labels = test_images
    explorer = latent_explorer(alone, torch.zeros(600, 2), labels, images=x)
    assert explorer.pen and explorer.encoder == ""
    assert {name.partition(":")[0] for name in explorer.image_names} == {"Typical", "Two modes", "Outsider"}


def test_show_sends_new_weights_and_codes(vae, points):
    explorer, other = latent_explorer(vae, *points), helpers.VAE()
    explorer.show(other, points[0] / 2)
    fresh = latent_explorer(other, (points[0] / 2).requires_grad_(), points[1])
    assert (explorer.weights, explorer.codes, explorer.labels) == (fresh.weights, fresh.codes, fresh.labels)
    assert explorer.encoder == ""  # without a pen it has none
    explorer.encoder = "of a pen"
    explorer.show(vae, points[0], points[1].flip(0))
    assert explorer.labels == latent_explorer(vae, points[0], points[1].flip(0)).labels
    assert explorer.encoder == _encoder_state(vae)["encoder"]
    with pytest.raises(ValueError, match="labels: expected one int64 for each of 3 codes"):
        explorer.show(other, points[0][:3])
    explorer.alone_codes = "of a second decoder"
    with pytest.raises(ValueError, match="labels: expected those that the explorer was made with"):
        explorer.show(vae, *points)
    explorer.show(vae, points[0], points[1].flip(0))


def test_before_a_training_where_all_classes_lie_on_one_spot_no_name_is_written(vae, points, monkeypatch):
    asked = []
    monkeypatch.setattr("explorer.show_latent", lambda *arguments, names, size: asked.append((names, size)))
    for spread in (1, 0.05, 0):
        latent_explorer(vae, spread * points[0], points[1])
    latent_explorer(vae, 0 * points[0], 0 * points[1])  # one class alone has its name
    latent_explorer(vae, points[0] * torch.tensor([0.0, 1.0]), points[1])  # apart on one axis
    latent_explorer(vae, 3 + 0.05 * points[0][7:], points[1][7:])  # one spot that is not the middle
    latent_explorer(vae, 0 * points[0], points[1] % 2)  # two classes
    apart, together = (True, 5), (False, 30)
    assert asked == [apart, together, together, apart, apart, together, together]


def test_the_script_and_the_still_picture_agree_when_classes_are_together():
    (there,) = re.findall(r"^const TOGETHER = ([\d.]+);", (ROOM / "explorer.js").read_text(encoding="utf-8"), re.M)
    assert float(there) == TOGETHER


def test_without_anywidget_show_changes_the_garment(without_anywidget, vae, points):
    explorer = without_anywidget.latent_explorer(vae, *points)
    before = bytes(explorer.children[1].value)
    explorer.show(helpers.VAE(), points[0])
    assert bytes(explorer.children[1].value) != before


def test_every_function_of_the_script_is_shorter_than_sixty_lines():
    script = (ROOM / "explorer.js").read_text(encoding="utf-8")
    functions = re.findall(r"^function .*?^}", script, re.DOTALL | re.MULTILINE)
    assert len(functions) > 60 and max(len(text.splitlines()) for text in functions) < 60


# a real notebook

CELLS = [
    "import sys; sys.path.insert(0, {root!r})\nimport torch, helpers\nfrom explorer import latent_explorer\n"
    "model = helpers.load_vae(helpers.REFERENCE)\n"
    "torch.manual_seed(0); codes, labels = torch.randn(500, 2), torch.arange(10).repeat(50)",
    "explorer = latent_explorer(model, codes, labels); explorer",
    "print('z', explorer.z)",
    "explorer.z = (-1.0, 2.0)",
    "import time\nmodel.decoder[-1].bias.data += 9\nexplorer.show(model, -codes)\ntime.sleep(6)",
    "x = torch.rand(500, 784)\npenned = latent_explorer(helpers.load_vae(helpers.REFERENCE), codes, labels, images=x)\n"
    "half = torch.cat([x[:1, :392], torch.zeros(1, 392)], dim=1)\npenned.draw(half)\npenned",
    "print('drawn', (penned.drawn() - half).abs().max().item() < 0.003, 'log p', penned.found.get('log_p'))",
]


def write_notebook(path, sources):
    cells = [tool.nbformat.v4.new_code_cell(source.format(root=str(storage.ROOT))) for source in sources]
    metadata = {"kernelspec": tool.KERNELSPEC}
    path.write_text(tool.nbformat.v4.writes(tool.nbformat.v4.new_notebook(cells=cells, metadata=metadata)))


class Jupyter:
    """A running server with one notebook, and how its front end selects and runs cells."""

    def __init__(self, folder: Path, sources: list[str], lab: bool = LAB):
        write_notebook(folder / "scratch.ipynb", sources)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        app = "jupyterlab" if lab else "notebook"
        options = [f"--port={port}", "--no-browser", "--allow-root"]
        options += [f"--{kind}.{name}=" for kind in ("IdentityProvider", "NotebookApp") for name in ("token",)]
        options += ["--NotebookApp.password=", "--KernelSpecManager.ensure_native_kernel=True"]
        environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(folder / "config")}
        log = (folder / "log.txt").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", app, *options], cwd=folder, env=environment, stdout=log, stderr=log
        )
        self.lab, self.root = lab, f"http://127.0.0.1:{port}"
        self.address = f"{self.root}/{'lab/tree' if lab else 'notebooks'}/scratch.ipynb"
        for _ in range(120):
            try:
                return urllib.request.urlopen(f"{self.root}/api", timeout=5).close()
            except OSError:
                assert self.process.poll() is None, (folder / "log.txt").read_text()
                time.sleep(0.5)
        raise TimeoutError((folder / "log.txt").read_text())

    def close(self):
        self.process.terminate()  # the server ends its kernels
        self.process.wait(30)

    def open(self, page):
        # JupyterLab says idle before it has a kernel, and would ask for one if a cell were run then.
        with page.expect_websocket(lambda socket: "/channels" in socket.url, timeout=60_000):
            page.goto(self.address)
        ready = ".jp-Notebook .jp-Cell" if self.lab else "#notebook-container .cell"
        page.locator(ready).first.wait_for(timeout=60_000)
        idle = "[data-status=idle]" if self.lab else "#kernel_indicator_icon.kernel_idle_icon"
        page.locator(idle).first.wait_for(timeout=60_000, state="attached")

    def cells(self, page):
        return page.locator(".jp-Notebook .jp-CodeCell" if self.lab else "#notebook-container .code_cell")

    def run(self, page, index):
        """Run one cell and return its printed output."""
        cell = self.cells(page).nth(index)
        prompt = cell.locator(".jp-InputPrompt" if self.lab else ".input_prompt").first
        before = prompt.inner_text()
        for tenth in range(600):
            now = prompt.inner_text()
            if now != before and re.search(r"\d", now):
                break
            if tenth % 50 == 0 and "*" not in now:  # a kernel that is still connecting may let a first one go by
                prompt.click()
                page.keyboard.press("Control+Enter")
            page.wait_for_timeout(100)
        return cell.locator(".jp-OutputArea" if self.lab else ".output").first.inner_text()


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    if not LAB and (importlib.util.find_spec("notebook") is None or int(version("notebook").split(".")[0]) >= 7):
        no_browser("neither JupyterLab nor the classic Notebook is installed")
    server = Jupyter(tmp_path_factory.mktemp("jupyter"), CELLS)
    yield server
    server.close()


@pytest.fixture(scope="module")
def notebook(browser, jupyter):
    """The notebook in the browser, with the explorer below its second cell."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.add_init_script(COUNT_MAPS)
    jupyter.open(page)
    jupyter.run(page, 0)
    jupyter.run(page, 1)
    page.locator("canvas.map").wait_for(timeout=60_000)
    page.locator("canvas.map").scroll_into_view_if_needed()
    yield page
    context.close()


def python_z(jupyter, page):
    page.wait_for_timeout(500)  # the page tells Python 100 ms after the last move
    return tuple(map(float, re.search(r"z \((.*)\)", jupyter.run(page, 2))[1].split(",")))


def test_in_the_notebook_page_and_python_move_the_same_point(notebook, jupyter, vae):
    page = notebook
    page.mouse.move(*at(page, -2, 1))
    page.mouse.down()
    for x in np.linspace(-2, 1.5, 8):
        page.mouse.move(*at(page, x, -0.5))
    page.mouse.up()
    dragged = position(page)
    assert dragged == pytest.approx((1.5, -0.5), abs=0.03)
    assert python_z(jupyter, page) == pytest.approx(dragged, abs=0.006)
    assert position(page) == dragged  # no echo moved it

    jupyter.run(page, 3)
    page.locator(".position", has_text="(−1.00, 2.00)").wait_for(timeout=10_000)
    assert np.abs(pixels(page) - grey_levels(vae, (-1.0, 2.0))).max() <= 1


def test_in_the_notebook_the_keys_move_the_point_and_not_the_selected_cell(notebook, jupyter):
    page = notebook
    page.locator("canvas.map").click()  # in its middle, once it holds still
    start = position(page)
    count = jupyter.cells(page).count()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "d", "d", "a", "b"):
        page.keyboard.press(key)
    assert np.subtract(position(page), start) == pytest.approx((0.05, -0.1), abs=0.011)
    assert jupyter.cells(page).count() == count
    page.locator(".sliders input").first.focus()
    page.keyboard.press("ArrowUp")
    assert position(page)[0] == pytest.approx(start[0] + 0.06, abs=0.011)
    assert python_z(jupyter, page) == pytest.approx(position(page), abs=0.006)


def test_in_the_notebook_running_the_cell_again_leaves_nothing_behind(notebook, jupyter):
    for _ in range(3):
        jupyter.run(notebook, 1)
        notebook.wait_for_timeout(500)
    notebook.locator("canvas.map").wait_for()

    assert notebook.locator("canvas.map").count() == 1
    assert notebook.evaluate("live") == 1


def test_in_the_notebook_a_busy_kernel_shows_the_plane_while_it_learns(notebook, jupyter):
    page = notebook
    assert pixels(page).mean() > 60
    page.evaluate("window.began = performance.now()")
    jupyter.cells(page).nth(4).locator(".jp-InputPrompt" if LAB else ".input_prompt").first.click()
    page.keyboard.press("Control+Enter")
    for _ in range(100):
        if pixels(page).mean() < 60:  # nine nats darker
            break
        page.wait_for_timeout(50)
    prompt = jupyter.cells(page).nth(4).locator(".jp-InputPrompt" if LAB else ".input_prompt").first.inner_text()
    assert pixels(page).mean() < 60 and "*" in prompt


def test_in_the_notebook_the_pen_takes_an_image_from_python_and_tells_what_it_finds(notebook, jupyter):
    page = notebook
    jupyter.run(page, 5)
    pad = jupyter.cells(page).nth(5).locator(".explorer")
    pad.locator("canvas.pad").wait_for(timeout=60_000)
    jupyter.cells(page).nth(5).locator(".explorer[data-settled=true]").wait_for(timeout=60_000)
    known = json.loads(pad.get_attribute("data-found"))
    page.wait_for_timeout(500)
    said = jupyter.run(page, 6)
    assert "drawn True" in said and float(said.split()[-1]) == pytest.approx(known["log_p"], abs=1e-3)
