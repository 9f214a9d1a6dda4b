"""The series: what is committed, how each notebook begins anywhere, and what its cells print and draw."""

import ast
import math
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace

import pytest
import torch
from nbformat.v4 import new_notebook
from test_house import ROOMS, files
from test_tool import alter_one_digit, code, nbval, put

import figures
import helpers
import storage
from tools import notebooks as tool

ROOT = Path(__file__).resolve().parents[1]
REAL = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODEL = ROOT / "notebooks" / "02_model_definition.ipynb"
CLINIC = ROOT / "notebooks" / "09_failure_clinic.ipynb"


# what is committed


def test_the_notebooks_are_numbered_without_a_gap():
    assert len(REAL) >= 3
    assert [path.name[:3] for path in REAL] == [f"{number:02d}_" for number in range(1, len(REAL) + 1)]


@pytest.mark.parametrize("path", [*REAL, ROOT / "README.md"], ids=lambda path: path.name)
def test_what_is_committed_has_no_problem(path):
    assert list(tool.problems(path)) == []


def test_the_series_as_a_whole_has_no_problem():
    assert list(tool.series_problems()) == []


def definition(sources, name):
    """The one definition of `name`, without docstrings, annotations, comments and layout."""
    nodes = [node for source in sources if f" {name}(" in source for node in ast.parse(source).body]
    (found,) = (node for node in nodes if getattr(node, "name", "") == name)
    for node in ast.walk(found):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            del node.body[0]
        for field in {"annotation", "returns"} & set(node._fields):
            setattr(node, field, None)
    return ast.dump(found, indent=1)


@pytest.mark.parametrize("name", ["VAE", "mlp"])
def test_notebook_02_defines_what_helpers_keeps(name):
    sources = [cell.source for cell in tool.read(MODEL).cells if cell.cell_type == "code"]

    assert definition(sources, name) == definition([(ROOT / "helpers.py").read_text(encoding="utf-8")], name)


def functions(source):
    """Each function and method in `source`, as it is called there, with its statements."""
    for node in ast.parse(source).body:
        in_class = [part for part in getattr(node, "body", []) if isinstance(part, ast.FunctionDef)]
        for part in [node] if isinstance(node, ast.FunctionDef) else in_class:
            name = part.name if part is node else f"{node.name}.{part.name}"
            yield name, part.body[ast.get_docstring(part) is not None :]


BROKEN = [
    pytest.param(cell.source, name, body, id=name)
    for cell in tool.code_cells(tool.read(CLINIC))
    for name, body in functions(cell.source)
    if any("# BROKEN" in cell.source.splitlines()[line.lineno - 1] for line in body)
]


def test_the_clinic_marks_its_broken_lines():
    assert len(BROKEN) >= 13


@pytest.mark.parametrize("source, name, body", BROKEN)
def test_a_broken_line_of_the_clinic_is_its_only_difference_to_the_sound_code(source, name, body):
    clinic = "\n\n".join(cell.source for cell in tool.code_cells(tool.read(CLINIC)))
    kept = functions((ROOT / "helpers.py").read_text(encoding="utf-8"))
    method = name.partition(".")[2]
    sound = [lines for other, lines in functions(clinic) if other.startswith("sound") and not method]
    sound += [lines for other, lines in kept if other == f"VAE.{method}"]

    changed = [
        [line for line, right in zip(body, lines) if ast.unparse(line) != ast.unparse(right)]
        for lines in sound
        if len(lines) == len(body)
    ]

    (broken,) = min(changed, key=len)
    assert "# BROKEN" in source.splitlines()[broken.lineno - 1]


# each patient of the clinic: how it is trained, which of its functions is the loss that it reports, and the right cause
PATIENTS = {
    "healthy": ({}, "sound", "healthy"),
    "1": ({"loss_of": "mean_over_pixels"}, "mean_over_pixels", "recon is a mean over pixels"),
    "2": ({"loss_of": "kl_over_batch"}, "kl_over_batch", "the KL is divided by the batch size"),
    "3": ({"loss_of": "squared_error"}, "squared_error", "recon is a squared error"),
    "4": ({"kind": "WrongSigma"}, "sound", "draws do not have sigma"),
    "5": ({"kind": "NoGradient"}, "sound", "no gradient passes the draw"),
    "6": ({}, "at_the_mean", "reported at z = mu"),
    "7": ({"loss_of": "sigmoid_twice"}, "sigmoid_twice", "sigmoid twice"),
    "8": ({"images": "centred_images"}, "sound", "pixels outside [0, 1]"),
    "9": ({"images": "leaked_images"}, "sound", "trained on these images"),
    "10": ({"kind": "BoundedMean"}, "sound", "an activation on mu"),
    "11": ({"kind": "WrongAxis"}, "sound", "codes depend on other images"),
    "12": ({"kind": "WithDropout"}, "sound", "the encoder is in training mode"),
    "13": ({"kind": "Deaf"}, "sound", "the decoder ignores z"),
    "14": ({"kind": "Unbounded"}, "sound", "nothing bounds the variance"),
}


@pytest.fixture(scope="module")
def clinic():
    """What notebook 09 defines, without what it does: its imports, data, functions and classes."""
    names = {}
    for cell in tool.code_cells(tool.read(CLINIC)):
        if cell.id == "imports":
            exec(cell.source, names)
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                exec(compile(ast.Module([node], []), CLINIC.name, "exec"), names)
    return names


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("patient", PATIENTS)
def test_the_diagnosis_of_the_clinic_names_the_right_cause_and_no_other(clinic, patient, seed):
    options, loss_of, cause = PATIENTS[patient]
    options = {key: clinic[name] for key, name in options.items()}
    if choose := options.pop("images", None):
        options["images"] = choose(clinic["x"], clinic["x_val"])

    vae, _ = clinic["train"](seed=seed, steps=100, **options)
    clinic["unready_mode" if patient == "12" else "sound_mode"](vae)

    held_out = clinic["x_val"][:500]
    assert clinic["diagnose"](vae, held_out, clinic[loss_of], options.get("images", clinic["x"])) == [cause]


@pytest.mark.parametrize(
    "beta, found",
    [
        (1, "healthy"),
        (0, "the KL is missing"),
        (1 / 500, "the KL is divided by the batch size"),
        (1 / 2, "the loss is none of the sums in this list"),
        (1 / 300, "the loss is none of the sums in this list"),
        (1 / 784, "the loss is none of the sums in this list"),
    ],
)
def test_the_diagnosis_tells_a_small_price_of_the_code_from_none(clinic, beta, found):
    def loss(vae, batch):
        mu, logvar = vae.encode(batch)
        recon = helpers.reconstruction_loss(batch, vae.decode(vae.reparameterize(mu, logvar)))
        return (recon + beta * helpers.kl_divergence(mu, logvar)).mean()

    vae = helpers.load_vae(helpers.REFERENCE)
    assert clinic["diagnose"](vae, clinic["x_val"][:500], loss, clinic["x"]) == [found]


def causes(clinic, vae):
    """What `diagnose` says of a model with the sound loss."""
    return clinic["diagnose"](vae, clinic["x_val"][:500], clinic["sound"], clinic["x"])


def test_the_diagnosis_finds_a_draw_that_passes_half_of_the_gradient(clinic):
    class HalfDetached(helpers.VAE):
        def reparameterize(self, mu, logvar):
            return mu.detach() + torch.exp(logvar / 2) * torch.randn_like(mu)

    found = causes(clinic, HalfDetached().eval())
    assert found == ["no gradient passes the draw"]


def test_the_diagnosis_of_a_frozen_model_is_that_of_the_model(clinic):
    frozen = helpers.load_vae(helpers.REFERENCE).requires_grad_(False)
    assert causes(clinic, frozen) == ["healthy"]


def test_the_diagnosis_finds_dropout_in_the_decoder(clinic):
    vae = helpers.VAE()
    vae.decoder.insert(2, torch.nn.Dropout(0.2))
    for training, cause in ((True, "the decoder is in training mode"), (False, "healthy")):
        vae.train(training)
        found = causes(clinic, vae)
        assert cause in found and (training or found == [cause])


def test_the_clinic_calls_a_variance_bounded_that_a_clamp_bounds(clinic):
    class Clamped(helpers.VAE):
        def encode(self, x):
            mu, h = self.encoder(x).chunk(2, dim=1)
            return mu, h.clamp(-10, 10)

    vae = clinic["sound_mode"](Clamped())
    assert causes(clinic, vae) == ["healthy"]


def test_the_diagnosis_finds_a_sigmoid_at_the_end_of_the_decoder(clinic):
    vae = helpers.load_vae(helpers.REFERENCE)
    vae.decoder.append(torch.nn.Sigmoid())

    found = causes(clinic, vae)
    assert found == ["decode returns no logits"]


def test_the_diagnosis_looks_at_the_range_of_the_held_out_images_too(clinic):
    vae, batch = helpers.load_vae(helpers.REFERENCE), 2 * clinic["x_val"][:500] - 1
    assert clinic["diagnose"](vae, batch, clinic["sound"], clinic["x"]) == ["pixels outside [0, 1]"]


def test_the_diagnosis_of_weights_that_are_not_finite_says_so(clinic):
    vae = helpers.load_vae(helpers.REFERENCE)
    with torch.no_grad():
        vae.decoder[0].bias[0] = torch.nan
    assert causes(clinic, vae) == ["weights that are not finite"]


def test_the_diagnosis_finds_a_wrong_sigma_beside_dead_dimensions(clinic):
    class WrongSigma(helpers.VAE):
        def encode(self, x):
            mu, _ = super().encode(x)
            dead = torch.arange(mu.shape[1]) > 0
            return mu * ~dead, torch.where(dead, -1e-6, -3.0).expand_as(mu)

        def reparameterize(self, mu, logvar):
            return mu + logvar.exp() * torch.randn_like(mu)

    assert causes(clinic, WrongSigma(6).eval()) == ["draws do not have sigma"]


def test_the_diagnosis_finds_batchnorm_in_the_decoder_in_training_mode(clinic):
    vae = helpers.load_vae(helpers.REFERENCE)
    vae.decoder.insert(2, torch.nn.BatchNorm1d(256))
    vae.train()
    assert causes(clinic, vae) == ["pictures depend on other codes"]


def test_the_diagnosis_takes_a_model_that_keeps_its_last_codes(clinic):
    class Keeping(helpers.VAE):
        def encode(self, x):
            self.mu, self.logvar = super().encode(x)
            return self.mu, self.logvar

    vae = Keeping()
    vae.load_state_dict(helpers.load_vae(helpers.REFERENCE).state_dict())
    vae(clinic["x_val"][:8])
    assert causes(clinic, vae.eval()) == ["healthy"]


def test_the_diagnosis_leaves_the_model_and_the_random_numbers_as_they_were(clinic):
    vae = helpers.VAE()
    vae.encoder.insert(1, torch.nn.BatchNorm1d(256))
    before = [value.clone() for value in vae.state_dict().values()], torch.get_rng_state()
    causes(clinic, vae)
    assert all(map(torch.equal, before[0], vae.state_dict().values())) and torch.equal(before[1], torch.get_rng_state())


def test_batchnorm_in_training_mode_is_no_activation_on_mu(clinic):
    vae = helpers.VAE()
    vae.encoder.append(torch.nn.BatchNorm1d(4))
    found = causes(clinic, vae)
    assert "codes depend on other images" in found and "an activation on mu" not in found


# the setup cell

SETUP_CELL = tool.code_cells(tool.read(REAL[0]))[0].source


@pytest.fixture
def clone(tmp_path):
    """A clone with a helpers.py that costs nothing to import, a bare copy of it, and an empty folder."""
    tmp_path = tmp_path / "Größe ½ 衣服"
    source = tmp_path / "source"
    (source / "notebooks").mkdir(parents=True)
    (source / "notebooks" / "keep").touch()
    (source / "helpers.py").touch()
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm a"):
        subprocess.run(["git", *command.split()], cwd=source, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", source, tmp_path / "OWNER" / "NAME"], check=True)
    (tmp_path / "empty").mkdir()
    return tmp_path


def instead_of_github(clone):
    """The environment in which git takes the folder OWNER/NAME for the repository on GitHub, and uses no network."""
    config = {"COUNT": "1", "KEY_0": f"url.{clone.as_uri()}/.insteadOf", "VALUE_0": "https://github.com/"}
    return {"VAE_REPO": "OWNER/NAME", **{f"GIT_CONFIG_{name}": value for name, value in config.items()}}


def set_up(clone, folder, before="", cell=SETUP_CELL, **environment):
    """Run the setup cell in a fresh Python in `folder`; return the file of the `helpers` it ends with, or its error."""
    program = f"{before}\n{cell}\nimport helpers\nprint(os.path.realpath(helpers.__file__))"
    result = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program],
        cwd=clone / folder,
        env={**os.environ, **instead_of_github(clone), **environment},
        capture_output=True,
        encoding="utf-8",
    )
    return result.stderr or Path(result.stdout.strip())


def test_the_setup_cell_is_the_same_in_all_notebooks():
    cells = [tool.code_cells(tool.read(path))[0] for path in REAL]

    assert {cell.source for cell in cells} == {SETUP_CELL} and {cell.id for cell in cells} == {"setup"}
    assert not any(cell.outputs for cell in cells)
    assert all(cell.metadata == {"cellView": "form", "jupyter": {"source_hidden": True}} for cell in cells)


PLACES = {"source": "source", "source/notebooks": "source", "empty": "empty/NAME"}


@pytest.mark.parametrize("folder, root", PLACES.items())
def test_the_setup_cell_finds_helpers_or_fetches_it(clone, monkeypatch, folder, root):
    for name, value in instead_of_github(clone).items():
        monkeypatch.setenv(name, value)
    path = put(
        clone / folder / "alone.ipynb",
        new_notebook(cells=[code("a", SETUP_CELL), code("b", "import helpers\nhelpers.__file__")]),
    )

    result = tool.code_cells(tool.execute(path)[0])[1].outputs[0].data["text/plain"]

    assert Path(ast.literal_eval(result)).samefile(clone / root / "helpers.py")


def test_the_setup_cell_goes_by_the_notebook_that_vs_code_names(clone):
    notebook = clone / "source" / "notebooks" / "01.ipynb"

    found = set_up(clone, "empty", f"__vsc_ipynb_file__ = {str(notebook)!r}")

    assert found == (clone / "source" / "helpers.py").resolve() and list((clone / "empty").iterdir()) == []


def test_the_setup_cell_clones_once_however_often_it_runs(clone):
    again = f"{SETUP_CELL}\nopen(root / 'mark', 'w').close()\n{SETUP_CELL}"

    assert set_up(clone, "empty", again) == (clone / "empty" / "NAME" / "helpers.py").resolve()
    assert set_up(clone, "empty", VAE_REPO="NOBODY/NAME") == (clone / "empty" / "NAME" / "helpers.py").resolve()
    assert (clone / "empty" / "NAME" / "mark").exists() and len(list((clone / "empty").iterdir())) == 1


STRANGERS = {
    "beside the notebook": "open('helpers.py', 'w').close()",
    "on the path": "import sys; sys.path.insert(0, 'other')",
    "already imported": "import sys; sys.path.insert(0, 'other'); import helpers",
    "made in memory": "import sys, types; sys.modules['helpers'] = types.ModuleType('helpers')",
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("folder, root", PLACES.items())
def test_the_setup_cell_ends_with_our_helpers_and_not_with_another(clone, stranger, folder, root):
    other = clone / folder / "other"
    other.mkdir()
    (other / "helpers.py").touch()

    assert set_up(clone, folder, STRANGERS[stranger]) == (clone / root / "helpers.py").resolve()


NOWHERE = {"GIT_CONFIG_KEY_0": "url.http://127.0.0.1:9/.insteadOf", "no_proxy": "127.0.0.1"}  # the discard port
NO_CLONE = {  # what is missing: the environment without it, what the message says of it
    "the repository": (
        {"VAE_REPO": "SOMEBODY/ELSE"},
        "SOMEBODY/ELSE' does not appear to be a git repository",
        "SOMEBODY/ELSE",
    ),
    "git": ({"PATH": ""}, "'git'", "OWNER/NAME"),
    "the network": (NOWHERE, "unable to access 'http://127.0.0.1:9/OWNER/NAME/'", "OWNER/NAME"),
}


@pytest.mark.parametrize("missing", NO_CLONE)
def test_the_setup_cell_says_what_it_needs_when_it_cannot_clone(clone, missing):
    environment, reason, name = NO_CLONE[missing]

    error = set_up(clone, "empty", **environment)

    assert reason in error and "another exception" not in error
    assert error.strip().endswith(f"Needs git, the internet and the right VAE_REPO (now {name}).")
    assert list((clone / "empty").iterdir()) == []


class NoSuchRepository(BaseHTTPRequestHandler):
    """GitHub's answer for a repository that does not exist: it asks who wants to know."""

    def do_GET(self):
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()


def test_the_setup_cell_does_not_wait_for_a_password_when_the_repository_is_wrong(clone):
    with ThreadingHTTPServer(("127.0.0.1", 0), NoSuchRepository) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        github = f"url.http://127.0.0.1:{server.server_port}/.insteadOf"
        error = set_up(clone, "empty", GIT_CONFIG_KEY_0=github, no_proxy="127.0.0.1", GIT_ASKPASS="", SSH_ASKPASS="")
        server.shutdown()

    assert "terminal prompts disabled" in error and "the right VAE_REPO (now OWNER/NAME)" in error


# what is under test


def test_what_is_under_test_writes_outside_the_repository():
    output = Path(os.environ["VAE_OUTPUT"])

    assert storage.OUTPUT == output and output.is_dir() and ROOT not in [output, *output.parents]


def test_so_does_a_notebook_that_is_tested_alone():
    command = [sys.executable, "-m", "pytest", "--trace-config", "--collect-only", "-q", REAL[0]]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert str(ROOT / "conftest.py") in run.stdout, run.stdout + run.stderr


def test_a_notebook_after_the_third_is_tested_with_the_weights_of_its_committed_outputs(request):
    own, shipped = (root / "checkpoints" for root in (Path(os.environ["VAE_OUTPUT"]), ROOT))
    conftest = request.config.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    own.mkdir(exist_ok=True)
    for name, expected in (("03_training.ipynb", b"trained"), ("04_plane.ipynb", (shipped / "vae.pt").read_bytes())):
        (own / "my_vae.pt").write_bytes(b"trained")
        conftest.pytest_runtest_setup(SimpleNamespace(path=ROOT / "notebooks" / name, config=request.config))

        assert (own / "my_vae.pt").read_bytes() == expected
    (own / "my_vae.pt").unlink()


# formulas: what a notebook prints, computed a second time without torch

PRIOR = NormalDist()
FORMULAS = {
    "mean distance of a draw from the prior": math.sqrt(math.pi / 2),
    "outermost quantile": PRIOR.inv_cdf(14.5 / 15),
    "prior mass within the quantile grid": 100 * (14.5 / 15 - 0.5 / 15) ** 2,
    "prior mass within the even grid": 100 * math.erf(3 / math.sqrt(2)) ** 2,
    "draws farther than 2, expected": 100 * math.exp(-2),
    "price of moving by 2": 2.0,
    "price of shrinking to a tenth": (0.01 - 1 - 2 * math.log(0.1)) / 2,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_printed_formula_agrees_with_the_standard_library(name):
    record = tool.records()[name]

    assert record["value"] == float(tool.printed(FORMULAS[name], record["tol"]))


def test_the_grid_of_notebook_05_has_z1_to_the_right_and_z2_upwards():
    cells = {cell.id: cell.source for cell in tool.read(ROOT / "notebooks" / "05_generation.ipynb").cells}
    decoded, shown = [], []
    kept = {"decode": lambda vae, z: decoded.append(z) or torch.zeros(len(z), 784), "plane_grid": helpers.plane_grid}
    drawn = {"show_images": lambda images, *_: shown.append(len(images)), "save_figure": print, "show": figures.show}
    names = {"torch": torch, "Normal": torch.distributions.Normal, "plt": figures.plt, "vae": None}
    names |= {"claim": lambda *_, **__: None, "helpers": SimpleNamespace(**kept), "figures": SimpleNamespace(**drawn)}

    exec(cells["grid-points"] + "\n" + cells["grid-plot"], names)

    expected = torch.tensor([PRIOR.inv_cdf((j + 0.5) / 15) for j in range(15)])
    (grid,) = (z.view(15, 15, 2) for z in decoded)
    torch.testing.assert_close(grid[:, :, 0], expected.expand(15, 15))
    torch.testing.assert_close(grid[:, :, 1], expected.flip(0)[:, None].expand(15, 15))
    assert shown == [225]


# the canary on the real thing


def test_nbval_notices_one_altered_digit_in_notebook_02(tmp_path):
    notebook = tool.read(MODEL)
    untagged = [
        cell for cell in tool.code_cells(notebook) if "nbval-ignore-output" not in cell.metadata.get("tags", [])
    ]
    last = next(cell for cell in untagged if cell.outputs and cell.outputs[0].get("name") == "stdout")
    notebook.cells = notebook.cells[: notebook.cells.index(last) + 1]
    path = put(tmp_path / "notebooks" / "altered.ipynb", notebook)
    for room in ROOMS:  # their own folder stays the real one, with the data
        place = files(room)[0] if (ROOT / f"{room}.py").is_file() else ROOT / room
        (tmp_path / place.name).symlink_to(place)
    alter_one_digit(path, path)  # as it is, it is tested with the others

    assert nbval(path.parent) == {"altered.ipynb": ["PASSED"] * (len(tool.code_cells(notebook)) - 1) + ["FAILED"]}
