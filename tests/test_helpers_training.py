"""helpers, sections training and checkpoints."""

import ast
import inspect
import math
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import helpers
import storage

KEYS = ["recon", "kl", "val_recon", "val_kl", "seconds"]


class Noiseless(helpers.VAE):
    """A VAE whose z is mu, so that every term can be computed again."""

    def reparameterize(self, mu, logvar):
        return mu


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On a busy machine, threads that wait for each other make these small models a hundred times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images():
    """The first 2,000 training images."""
    return helpers.load_fashion_mnist("train")[0][:2000].clone()


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return helpers.VAE(hidden=(64, 64))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoints" / "my_vae.pt"


def fit(images, seed=0, epochs=2, model=helpers.VAE, **options):
    """Train a small model on 1,000 images, validate it on 500 others, and return it and its history."""
    torch.manual_seed(seed)
    vae = model(hidden=(64, 64))
    return vae, helpers.fit(vae, images[:1000], images[1000:1500], epochs, progress=False, **options)


def loss_of_the_mean_image(x):
    """The best that a model without a code can do, in nats per image."""
    return F.binary_cross_entropy(x.mean(dim=0).expand_as(x), x, reduction="sum") / len(x)


def learn(vae, x, optimizer, weight=1.0):
    """Take one step on the batch x and return its loss before the step."""
    logits, mu, logvar = vae(x)
    loss = (helpers.reconstruction_loss(x, logits) + weight * helpers.kl_divergence(mu, logvar)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def one_cycle(step, steps, max_lr):
    """The learning rate of a step: up along a cosine for a tenth of the steps, down along another."""
    top = 0.1 * steps - 1
    low, share = (max_lr / 25, step / top) if step <= top else (max_lr / 250_000, 1 - (step - top) / (steps - 1 - top))
    return low + (1 - math.cos(math.pi * share)) / 2 * (max_lr - low)


def plain_loop(vae, x, epochs, batch_size, max_lr, beta):
    """Train as `fit` does, with every rate and weight by hand."""
    optimizer = torch.optim.Adam(vae.parameters(), betas=(0.9, 0.99), fused=True)
    steps = [index for _ in range(epochs) for index in torch.randperm(len(x)).split(batch_size)]
    for step, index in enumerate(steps):
        optimizer.param_groups[0]["lr"] = one_cycle(step, len(steps), max_lr)
        learn(vae, x[index], optimizer, beta(step / len(steps)))
    return vae


def without_seconds(history):
    return {key: values for key, values in history.items() if key != "seconds"}


@contextmanager
def python(program):
    """Another Python, in the repository's folder, that runs one of tests/programs and does not outlive the test."""
    command = [sys.executable, Path(__file__).parent / "programs" / program]
    environment = {**os.environ, "PYTHONPATH": str(helpers.storage.ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


# learning


def test_one_fixed_batch_can_be_overfitted(vae, images):
    x, optimizer = images[:32], torch.optim.Adam(vae.parameters(), lr=3e-3)
    for _ in range(400):
        loss = learn(vae, x, optimizer)

    assert loss < 0.75 * loss_of_the_mean_image(x)


def test_fit_lowers_the_loss_on_training_and_validation_images(images):
    _, history = fit(images, epochs=3, batch_size=20)

    for before, after in [*pairwise(history["recon"]), *pairwise(history["val_recon"])]:
        assert after < before
    assert history["val_recon"][-1] + history["val_kl"][-1] < 0.85 * loss_of_the_mean_image(images)


def test_same_seed_gives_the_same_history_and_weights(images):
    (one, first), (two, second) = fit(images), fit(images)

    assert without_seconds(first) == without_seconds(second)
    assert all(map(torch.equal, one.parameters(), two.parameters()))


def test_another_seed_gives_another_history(images):
    assert without_seconds(fit(images, seed=0)[1]) != without_seconds(fit(images, seed=1)[1])


BETAS = {  # what is given to fit, and the weight of the KL after a share of the steps
    "1": (1.0, lambda done: 1.0),
    "0.3": (0.3, lambda done: 0.3),
    "0, then 1": (lambda done: float(done >= 0.5), lambda done: 0.0 if done < 0.5 else 1.0),
    "rising": (lambda done: 4 * done, lambda done: 4 * done),
}


@pytest.mark.parametrize("given, weight", BETAS.values(), ids=BETAS)
def test_fit_equals_a_plain_loop_with_adam_and_the_one_cycle_by_hand(images, given, weight):
    fitted, _ = fit(images, model=Noiseless, batch_size=100, max_lr=2e-3, beta=given)

    torch.manual_seed(0)
    vae = plain_loop(Noiseless(hidden=(64, 64)), images[:1000], epochs=2, batch_size=100, max_lr=2e-3, beta=weight)
    torch.testing.assert_close(list(fitted.parameters()), list(vae.parameters()), rtol=1e-4, atol=1e-5)


def test_beta_as_a_function_is_asked_once_a_step_with_the_share_of_the_steps_that_is_done(images):
    shares = []

    fit(images, epochs=3, batch_size=128, beta=lambda done: shares.append(done) or 1.0)

    assert shares == [step / 24 for step in range(24)]


def test_every_epoch_uses_every_image_once_in_a_new_order(images):
    x = images[:1000].clone()
    x[:, 0] = torch.arange(1000) / 1000  # the first pixel numbers the images
    orders, model = [], helpers.VAE(hidden=(8,))
    model.register_forward_pre_hook(lambda module, batch: orders.append(batch[0][:, 0]) if module.training else None)

    helpers.fit(model, x, images, epochs=2, progress=False)

    first, second = torch.cat(orders).split(1000)
    assert torch.equal(first.sort().values, x[:, 0]) and torch.equal(second.sort().values, x[:, 0])
    assert not torch.equal(first, second) and not torch.equal(first, x[:, 0])


@pytest.mark.parametrize("count, epochs", [(1, 1), (100, 9), (128, 10), (1000, 2)])
def test_small_data_and_few_epochs_can_be_fitted(vae, images, count, epochs):
    history = helpers.fit(vae, images[:count], images[:10], epochs, progress=False)

    assert len(history["recon"]) == epochs


def test_beta_weighs_the_kl(images):
    (_, loose), (_, usual), (_, tight) = (fit(images, beta=beta, batch_size=20) for beta in (0, 1, 10))

    assert loose["kl"][-1] > 1.5 * usual["kl"][-1]
    assert usual["kl"][-1] > 1.5 * tight["kl"][-1]


def test_fit_returns_a_model_in_eval_mode(images):
    model, _ = fit(images, epochs=1)

    assert not model.training


def test_defaults_of_fit_are_the_recipe_of_notebook_03():
    parameters = inspect.signature(helpers.fit).parameters.values()

    defaults = {
        parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty
    }
    recipe = {"epochs": 10, "batch_size": 128, "max_lr": 3e-3, "beta": 1.0}
    assert defaults == {**recipe, "on_epoch": None, "on_step": None, "progress": True}


# seeds


def test_set_seed_makes_the_draws_repeatable_and_returns_the_seed(monkeypatch):
    monkeypatch.delenv("VAE_SEED", raising=False)

    assert helpers.set_seed(3) == 3
    first = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(first, torch.rand(4))


@pytest.mark.parametrize("shift, seed", [("0", 3), ("1", 1003), ("12", 12_003)])
def test_vae_seed_shifts_every_seed_by_a_thousand(monkeypatch, shift, seed):
    monkeypatch.setenv("VAE_SEED", shift)

    assert helpers.set_seed(3) == seed == torch.initial_seed()


# history


def test_history_has_one_number_per_epoch_and_key(images):
    start = time.perf_counter()
    _, history = fit(images, epochs=3)

    assert sum(history["seconds"]) < time.perf_counter() - start
    assert list(history) == KEYS
    assert all(len(values) == 3 and all(type(value) is float for value in values) for values in history.values())
    assert all(seconds > 0 for seconds in history["seconds"])


@pytest.mark.parametrize("beta", [1, 5])
def test_training_history_is_the_mean_over_the_images_and_not_over_the_batches(images, beta):
    x, model = images[:129], Noiseless(hidden=(64, 64))  # two batches: 128 images and one
    history = helpers.fit(model, x, x, epochs=2, max_lr=1e-30, beta=beta, progress=False)  # learns nothing

    logits, mu, logvar = model(x)
    recon = helpers.reconstruction_loss(x, logits).mean().item()
    kl = helpers.kl_divergence(mu, logvar).mean().item()
    assert history["recon"] == pytest.approx([recon, recon], rel=1e-5)
    assert history["kl"] == pytest.approx([kl, kl], rel=1e-5)


def test_validation_history_is_what_evaluate_returns_after_the_epoch(images):
    means = []

    def on_epoch(epoch, model):
        means.append([term.mean().item() for term in helpers.evaluate(model, images[1000:1500])])

    _, history = fit(images, model=Noiseless, on_epoch=on_epoch)
    assert list(zip(history["val_recon"], history["val_kl"])) == list(map(tuple, means))


def test_validation_draws_its_z_from_the_global_generator(images, monkeypatch):
    states, evaluate = [], helpers.evaluate
    monkeypatch.setattr(helpers, "evaluate", lambda *args: states.append(torch.get_rng_state()) or evaluate(*args))

    model, history = fit(images)

    torch.set_rng_state(states[-1])
    recon, kl = evaluate(model, images[1000:1500])
    assert (history["val_recon"][-1], history["val_kl"][-1]) == (recon.mean().item(), kl.mean().item())


def test_on_epoch_is_called_after_each_epoch_with_its_number_and_the_model(images):
    calls = []

    model, _ = fit(images, epochs=3, on_epoch=lambda *arguments: calls.append(arguments))

    assert calls == [(1, model), (2, model), (3, model)]


def test_on_step_is_called_after_each_step_of_all_epochs_with_its_number_and_the_model(images):
    calls, weights = [], []

    def on_step(step, model):
        calls.append((step, model))
        weights.append(model.decoder[-1].weight.detach().clone())

    model, _ = fit(images, epochs=2, on_step=on_step)
    assert calls == [(step, model) for step in range(1, 17)]  # 1,000 images in batches of 128
    assert not any(torch.equal(a, b) for a, b in zip(weights, weights[1:]))
    assert torch.equal(weights[-1], model.decoder[-1].weight)


def test_who_looks_at_the_model_from_on_step_changes_nothing(images):
    modes, looked = [], []

    class Watched(helpers.VAE):
        def forward(self, x):
            modes.append(self.training)
            return super().forward(x)

    def look(step, model):
        looked.append(helpers.encode(model, images[:100])[0])

    left, _ = fit(images, epochs=2)
    watched, _ = fit(images, epochs=2, model=Watched, on_step=look)
    assert all(map(torch.equal, left.parameters(), watched.parameters()))
    assert sum(modes) == len(looked) == 16  # each step in training mode, though the look before it evaluates


def test_progress_bar_shows_the_running_loss_on_stderr_only_when_asked(vae, images, capsys):
    history = helpers.fit(vae, images[:1000], images[1000:1500], epochs=1)
    bar = capsys.readouterr()
    fit(images)

    assert bar.out == "" and f"validation={history['val_recon'][0] + history['val_kl'][0]:.1f}" in bar.err
    assert f"training={history['recon'][0] + history['kl'][0]:.1f}" in bar.err
    assert re.search(r"\rtraining: 100%.* 8/8 \[.*(\dstep/s|s/step\b)", bar.err)
    assert bar.err.endswith("\r")  # wiped out at the end
    assert capsys.readouterr() == ("", "")


# what stops it


def test_interrupt_between_two_epochs_keeps_the_model_and_both_epochs(images, capsys):
    kept = []

    def on_epoch(epoch, model):
        kept[:] = [parameter.clone() for parameter in model.parameters()]
        if epoch == 2:
            raise KeyboardInterrupt

    model, history = fit(images, epochs=3, on_epoch=on_epoch)
    assert all(map(torch.equal, model.parameters(), kept)) and not model.training
    assert [len(values) for values in history.values()] == [2] * 5
    assert "Stopped in epoch 2 of 3: the model keeps all it learned" in capsys.readouterr().out


def test_interrupt_inside_an_epoch_keeps_the_model_and_the_full_epochs(vae, images, capsys):
    countdown = iter(range(11, -1, -1))  # 8 steps, a validation, and 2 steps of epoch 2

    def interrupt(module, batch):
        if next(countdown) == 0:
            raise KeyboardInterrupt

    vae.register_forward_pre_hook(interrupt)
    history = helpers.fit(vae, images[:1000], images[1000:1500], epochs=3, progress=False)

    assert [len(values) for values in history.values()] == [1] * 5 and not vae.training
    assert "Stopped in epoch 2 of 3" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_real_interrupt_of_a_real_process_ends_fit_and_not_the_process():
    with python("train.py") as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)

    *epochs, stopped, result = [first, *out.splitlines()]
    assert process.returncode == 0 and stopped.endswith("keeps all it learned, the history full epochs.")
    assert result in (f"{len(epochs)} True", f"{len(epochs) + 1} True")  # one more when it came just before a print


def test_loss_that_is_not_finite_stops_with_advice(vae, images):
    vae.decoder[-1].bias.data[0] = math.inf

    with pytest.raises(FloatingPointError) as caught:
        helpers.fit(vae, images, images, max_lr=0.002, progress=False)
    assert str(caught.value) == "epoch 1: the loss is not finite; start anew, max_lr < 0.002"


@pytest.mark.parametrize("position", range(4))
def test_one_term_that_is_not_finite_is_enough(vae, images, monkeypatch, position):
    terms = [1.0] * 4
    terms[position] = math.inf
    monkeypatch.setattr(helpers, "_train_epoch", lambda *_: terms[:2])
    monkeypatch.setattr(helpers, "evaluate", lambda *_: map(torch.tensor, terms[2:]))

    with pytest.raises(FloatingPointError, match="the loss is not finite"):
        helpers.fit(vae, images, images, progress=False)


BAD_IMAGES = {
    "pictures": (torch.zeros(4, 28, 28), "float32 images (N, 784) in [0, 1], received torch.float32 (4, 28, 28)"),
    "one image": (torch.zeros(784), "float32 images (N, 784) in [0, 1], received torch.float32 (784,)"),
    "bytes": (torch.zeros(4, 784).byte(), "float32 images (N, 784) in [0, 1], received torch.uint8 (4, 784)"),
    "none": (torch.zeros(0, 784), "float32 images (N, 784) in [0, 1], received torch.float32 (0, 784)"),
    "array": (torch.zeros(4, 784).numpy(), "float32 images (N, 784) in [0, 1], received ndarray"),
    "doubles": (torch.zeros(4, 784).double(), "(N, 784) in [0, 1], received torch.float64 (4, 784)"),
    "not scaled": (torch.linspace(0, 255, 1568).view(2, 784), "pixels in [0, 1], received 0 to 255; divide bytes by"),
    "standardised": (torch.linspace(-1, 1, 1568).view(2, 784), "pixels in [0, 1], received -1 to 1"),
    "NaN": (torch.zeros(2, 784).index_fill(1, torch.tensor(5), math.nan), "pixels in [0, 1], received nan"),
}
USES = {
    "fit x": lambda vae, x: helpers.fit(vae, x, torch.zeros(1, 784), progress=False),
    "fit x_val": lambda vae, x: helpers.fit(vae, torch.zeros(1, 784), x, progress=False),
    "evaluate x": helpers.evaluate,
    "encode x": helpers.encode,
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
@pytest.mark.parametrize("use", USES)
def test_bad_images_are_refused_with_what_was_expected_and_received(vae, use, bad):
    images, words = BAD_IMAGES[bad]

    with pytest.raises(ValueError) as caught:
        USES[use](vae, images)
    assert str(caught.value).startswith(f"{use.split()[1]}: expected ") and words in str(caught.value)


# no waiting for the device


def in_optimizer(event):
    return event is not None and (event.name.startswith("Optimizer.step") or in_optimizer(event.cpu_parent))


def reads_of_values(images, count):
    """How often training on `count` images moves a number from a tensor to Python, which waits for a GPU."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        helpers.fit(helpers.VAE(hidden=(8,)), images[:count], images[:10], epochs=1, batch_size=50, progress=False)
    reads = [event for event in profile.events() if event.name in ("aten::item", "aten::is_nonzero", "aten::nonzero")]
    return sum(not in_optimizer(event) for event in reads)  # fused Adam reads its step counter, but on the CPU only


def test_number_of_reads_from_the_device_does_not_grow_with_the_number_of_batches(images):
    assert reads_of_values(images, 100) == reads_of_values(images, 600) > 0


def test_loop_over_batches_calls_nothing_that_copies_to_the_host():
    function = ast.parse(inspect.getsource(helpers._train_epoch))
    (loop,) = (node for node in ast.walk(function) if isinstance(node, ast.For))

    calls = [node.func for statement in loop.body for node in ast.walk(statement) if isinstance(node, ast.Call)]
    names = {call.attr if isinstance(call, ast.Attribute) else call.id for call in calls}
    assert {"backward", "step"} <= names
    assert not names & {"item", "tolist", "cpu", "numpy", "to", "float", "int", "bool", "print"}


# evaluation


def test_evaluate_returns_both_terms_of_each_image_in_order(images):
    vae = Noiseless(hidden=(8,))

    recon, kl = helpers.evaluate(vae, images)

    logits, mu, logvar = vae(images)
    torch.testing.assert_close(recon, helpers.reconstruction_loss(images, logits).detach())
    torch.testing.assert_close(kl, helpers.kl_divergence(mu, logvar).detach())


def test_evaluate_gives_the_same_for_every_batch_size(images):
    vae = Noiseless(hidden=(8,))

    whole = helpers.evaluate(vae, images, batch_size=2000)
    torch.testing.assert_close(helpers.evaluate(vae, images, batch_size=999), whole)
    torch.testing.assert_close(helpers.evaluate(vae, images), whole)


def test_evaluate_draws_one_z_for_each_image(vae, images):
    recon, kl = helpers.evaluate(vae, images[:1].expand(500, 784))

    assert len(recon.unique()) > 400
    torch.testing.assert_close(kl, kl[:1].expand(500))


def test_evaluate_keeps_no_graph_and_leaves_the_model_in_eval_mode(vae, images):
    recon, kl = helpers.evaluate(vae.train(), images[:10])

    assert not recon.requires_grad and not kl.requires_grad and not vae.training
    assert recon.device.type == kl.device.type == "cpu"


# the judge


@pytest.fixture(scope="module")
def toys():
    """A thousand noisy copies of ten pictures, which of the ten each one is, and a judge of them."""
    torch.manual_seed(0)
    y = torch.arange(10).repeat(100)
    x = (torch.rand(10, 784)[y] + 0.1 * torch.randn(1000, 784)).clamp(0, 1)
    return x, y, helpers.train_judge(x[:800], y[:800])


def test_judge_learns_to_tell_separable_pictures_apart(toys):
    x, y, judge = toys

    assert (judge(x[800:]).argmax(dim=1) == y[800:]).all()


def test_judge_gives_one_score_for_each_class_and_learns_no_more(toys):
    x, _, judge = toys

    scores = judge(x[:7])

    assert scores.shape == (7, len(helpers.CLASSES)) and not scores.requires_grad
    assert not any(parameter.requires_grad for parameter in judge.parameters())


def test_judge_is_repeatable_and_more_epochs_make_it_surer(toys):
    x, y, _ = toys

    def loss(epochs):
        torch.manual_seed(1)
        return F.cross_entropy(helpers.train_judge(x[:200], y[:200], epochs)(x), y)

    assert loss(1) == loss(1) > loss(10)


def test_judge_is_one_network_with_one_recipe(toys, monkeypatch):
    x, y, _ = toys
    seen, schedule, judge = [], helpers.OneCycleLR, helpers.mlp(784, 256, 256, 10)
    monkeypatch.setattr(helpers, "OneCycleLR", lambda *given, **named: seen.append(named) or schedule(*given, **named))
    monkeypatch.setattr(helpers, "mlp", lambda *sizes: seen.append(sizes) or judge)
    judge.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))

    helpers.train_judge(x[:257], y[:257])

    assert seen == [(784, 256, 256, 10), {"max_lr": 3e-3, "total_steps": 15}, *[128, 128, 1] * 5]


# checkpoints


def test_checkpoints_are_where_the_series_has_them():
    assert helpers.REFERENCE == storage.ROOT / "checkpoints" / "vae.pt"
    assert helpers.OWN_WEIGHTS == storage.OUTPUT / "checkpoints" / "my_vae.pt"


def test_checkpoint_gives_back_the_same_model(vae, images, path):
    helpers.save_checkpoint(vae, path)
    loaded = helpers.load_vae(path)

    assert loaded.config == vae.config == {"latent_dim": 2, "hidden": [64, 64]}
    assert not loaded.training and next(loaded.parameters()).device.type == "cpu"
    assert torch.equal(helpers.encode(loaded, images)[0], helpers.encode(vae, images)[0])
    assert torch.equal(helpers.decode(loaded, torch.eye(2)), helpers.decode(vae, torch.eye(2)))


def test_saving_again_replaces_the_checkpoint_and_leaves_no_other_file(vae, path):
    helpers.save_checkpoint(helpers.VAE(hidden=(8,)), path)
    helpers.save_checkpoint(vae, path)

    assert helpers.load_vae(path).config == vae.config
    assert list(path.parent.iterdir()) == [path]


def test_checkpoint_of_another_size_is_loaded_as_it_is(path):
    helpers.save_checkpoint(helpers.VAE(latent_dim=16, hidden=(8,)), path)

    assert helpers.load_vae(path).config == {"latent_dim": 16, "hidden": [8]}


def test_failed_save_leaves_the_old_checkpoint_and_no_scratch(vae, path):
    helpers.save_checkpoint(vae, path)
    broken = helpers.VAE(hidden=(8,))
    broken.config = {"hidden": lambda: None}  # cannot be pickled

    with pytest.raises((pickle.PicklingError, AttributeError)):
        helpers.save_checkpoint(broken, path)
    assert list(path.parent.iterdir()) == [path]
    assert helpers.load_vae(path).config == vae.config


def test_saving_where_no_folder_can_be_is_an_os_error(vae, tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OSError, match="cannot be written"):
        helpers.save_checkpoint(vae, tmp_path / "file" / "my_vae.pt")


def test_load_prefers_the_readers_own_weights_and_says_which_it_took(vae, tmp_path, monkeypatch, capsys):
    own, reference = tmp_path / "my_vae.pt", tmp_path / "vae.pt"
    monkeypatch.setattr(helpers, "OWN_WEIGHTS", own)
    monkeypatch.setattr(helpers, "REFERENCE", reference)
    helpers.save_checkpoint(helpers.VAE(hidden=(8,)), reference)

    assert helpers.load_vae().config["hidden"] == [8]
    helpers.save_checkpoint(vae, own)
    assert helpers.load_vae().config["hidden"] == [64, 64]
    helpers.save_checkpoint(vae, tmp_path / "elsewhere" / "mine.pt")
    helpers.load_vae(tmp_path / "elsewhere" / "mine.pt")
    helpers.save_checkpoint(vae, tmp_path / "better.pt")
    helpers.load_vae(tmp_path / "better.pt")  # beside the reference, and not shipped with it
    for folder, name in ((tmp_path, "decoder_alone.pt"), (tmp_path / "elsewhere", "vae.pt")):
        helpers.save_checkpoint(vae, folder / name)
        helpers.load_vae(folder / name)
    said = capsys.readouterr().out.splitlines()
    here = tmp_path.name
    places = [f"the reference, {here}/vae.pt", f"your own, {here}/my_vae.pt", "your own, elsewhere/mine.pt"]
    places += [f"your own, {here}/better.pt", f"the reference, {here}/decoder_alone.pt", "your own, elsewhere/vae.pt"]
    assert said == [f"Weights: {place}" for place in places]


def test_checkpoint_of_a_decoder_alone_is_a_model_without_encoder(vae, tmp_path):
    vae.encoder = None
    helpers.save_checkpoint(vae.half(), tmp_path / "alone.pt")

    alone = helpers.load_vae(tmp_path / "alone.pt")

    z = torch.randn(5, 2)
    assert alone.encoder is None and alone.decoder[0].weight.dtype == torch.float32
    torch.testing.assert_close(alone.decode(z), vae.float().decode(z))


def test_missing_checkpoint_is_named_with_the_next_step(path):
    with pytest.raises(FileNotFoundError) as caught:
        helpers.load_vae(path)

    assert str(caught.value) == f"{path}: expected a checkpoint, found no such file; run notebook 03 to make one"


def test_a_checkpoint_may_be_named_as_text_and_one_that_came_along_is_no_own_one(vae, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(helpers.storage.ROOT)
    for way in ("checkpoints/vae.pt", "notebooks/../checkpoints/vae.pt"):
        helpers.load_vae(way)
        assert "Weights: the reference, checkpoints/vae.pt" in capsys.readouterr().out

    helpers.save_checkpoint(vae, str(tmp_path / "text.pt"))
    assert helpers.load_vae(str(tmp_path / "text.pt")).config == vae.config
    with pytest.raises(ValueError, match=r"judge\.pt is not a checkpoint of this series .*git checkout checkpoints"):
        helpers.load_vae(helpers.REFERENCE.with_name("judge.pt"))


NO_TRAINING = [{"epochs": 0}, {"batch_size": 0}, {"max_lr": 0}, {"max_lr": math.nan}, {"beta": -1}, {"beta": math.nan}]


@pytest.mark.parametrize("numbers", NO_TRAINING)
def test_numbers_that_train_nothing_are_refused(vae, images, numbers):
    taken = {"epochs": 10, "batch_size": 128, "max_lr": 3e-3, "beta": 1.0, **numbers}
    received = ", ".join(map(str, taken.values()))
    with pytest.raises(ValueError, match=f"epochs and batch_size >= 1, max_lr > 0, beta >= 0, received {received}"):
        helpers.fit(vae, images, images, **numbers)


def test_a_batch_may_be_one_image(vae, images):
    history = helpers.fit(vae, images[:3], images[:3], epochs=1, batch_size=1, progress=False)
    assert math.isfinite(history["val_recon"][0])


def test_one_step_is_a_step(vae, images):
    before = torch.nn.utils.parameters_to_vector(vae.parameters()).detach().clone()
    helpers.fit(vae, images[:100], images[:10], epochs=1, progress=False)
    moved = torch.nn.utils.parameters_to_vector(vae.parameters()).detach() - before
    assert 1e-3 < moved.abs().max() < 3e-3  # Adam's first step is as long as the rate


def refuse(path):
    with pytest.raises(ValueError) as caught:
        helpers.load_vae(path)
    assert str(caught.value).startswith(f"{path} is not a checkpoint of this series (")
    assert str(caught.value).endswith("); run notebook 03 to make one.")


@pytest.mark.parametrize("length", [1, 5_000, 100_000, 400_000])
def test_truncated_checkpoint_is_refused(vae, path, length):
    helpers.save_checkpoint(vae, path)
    path.write_bytes(path.read_bytes()[:length])

    refuse(path)


def test_empty_checkpoint_is_refused(tmp_path):
    (tmp_path / "my_vae.pt").touch()

    refuse(tmp_path / "my_vae.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_random_bytes_are_refused(tmp_path):
    for seed in range(200):
        (tmp_path / "my_vae.pt").write_bytes(random.Random(seed).randbytes(1000))
        refuse(tmp_path / "my_vae.pt")


CONFIG = {"latent_dim": 2, "hidden": [8]}
WEIGHTS = helpers.VAE(**CONFIG).state_dict()
NO_CHECKPOINTS = {
    "no config": {"weights": WEIGHTS},
    "no weights": {"config": CONFIG},
    "weights of another shape": {"config": CONFIG, "weights": helpers.VAE(2, (9,)).state_dict()},
    "a weight too few": {"config": CONFIG, "weights": dict(list(WEIGHTS.items())[1:])},
    "a weight too many": {"config": CONFIG, "weights": {**WEIGHTS, "more": torch.zeros(1)}},
    "an unknown setting": {"config": {**CONFIG, "beta": 4}, "weights": WEIGHTS},
    "a bare state_dict": dict(WEIGHTS),
    "a list": [CONFIG, WEIGHTS],
    "a tensor": torch.zeros(3),
    "a module": torch.nn.Linear(2, 2),
}


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # of torch, for a word as the index of a tensor
@pytest.mark.parametrize("content", NO_CHECKPOINTS)
def test_file_of_other_content_is_refused(tmp_path, content):
    torch.save(NO_CHECKPOINTS[content], tmp_path / "my_vae.pt")

    refuse(tmp_path / "my_vae.pt")


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_malicious_pickle_is_refused_and_not_executed(tmp_path, write):
    path, trace = tmp_path / "my_vae.pt", tmp_path / "trace"
    write({"config": CONFIG, "weights": Malicious(trace)}, path)

    refuse(path)
    assert not trace.exists()
