"""Faults that befall a reader's machine, each met by a real process: killed, full disk, read-only, odd names.

What is wrong with the data themselves is in test_data.py, with a checkpoint itself in test_training.py.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import helpers

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of a file, and no users to become")
LINUX_ROOT = sys.platform == "linux" and os.geteuid() == 0
CAN_MOUNT = LINUX_ROOT and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0
MOUNTS = pytest.mark.skipif(not CAN_MOUNT, reason="only root may mount; the tests without a mount cover the rest")

FILES = ["checkpoints/my_vae.pt", "images/plot.png", "page.html"]  # what a reader could lose
START = """
import os, resource, signal, sys, tempfile, torch, helpers
vae = helpers.load_vae(helpers.REFERENCE)
figure, explorer = helpers.plt.figure(), helpers.latent_explorer(vae, torch.zeros(9, 2), torch.arange(9))
WRITERS = {
    "checkpoints/my_vae.pt": lambda: helpers.save_checkpoint(vae),
    "images/plot.png": lambda: helpers.save_figure(figure, "plot.png"),
    "page.html": lambda: explorer.save(helpers.OUTPUT / "page.html"),
}

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def limit_files(*_):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # Python ignores the signal: writing on is an OSError

def die_halfway():
    limit_files()
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # now it kills

def die_late():
    os.replace = die

def in_a_fork(do, disaster=lambda: None):
    "Prepare the disaster, do it, print what the OSError says, and return how the process ended."
    if (child := os.fork()) == 0:
        try:
            disaster()
            do()
        except OSError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def save_all(disaster):
    "Meet each save with the disaster; print how it ended, if the old file stayed, and how many folders are left over."
    for name, write in WRITERS.items():
        write()
        path = helpers.OUTPUT / name
        before = path.read_bytes()
        end = in_a_fork(write, disaster)
        left = sum(other.name.startswith("save-") for other in path.parent.iterdir())
        print(name, end, path.read_bytes() == before, left, flush=True)
"""


@pytest.fixture
def checkout():
    """A copy of what helpers.py needs, below a folder that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="vae ", ignore_cleanup_errors=True) as name:
        folder = Path(name) / "checkout"
        (folder / "checkpoints").mkdir(parents=True)
        for file in ("helpers.py", "explorer.js", "checkpoints/vae.pt"):
            shutil.copy(helpers.ROOT / file, folder / file)
        Path(name).chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def data():
    """The folder of torchvision's layout with the four files."""
    return helpers.fetch_fashion_mnist()


def python(checkout, code, *arguments, before=(), **environment):
    """Run `code` in another Python in `checkout`, which writes to the folder beside it and uses one thread."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("VAE_OUTPUT", "FASHION_MNIST_DIR")}
    own = {
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(checkout.parent),
        "OMP_NUM_THREADS": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    command = [*before, sys.executable, "-c", START + code, *map(str, arguments)]
    environment = {**inherited, **own, "VAE_OUTPUT": str(checkout.parent / "out"), **environment}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, encoding="utf-8", timeout=300)


def lines_of(result):
    assert result.returncode == 0, result.stderr
    return [line for line in result.stdout.splitlines() if not line.startswith("Weights:")]


# killed


@POSIX
@pytest.mark.parametrize("death, number", [("die_halfway", signal.SIGXFSZ), ("die_late", signal.SIGKILL)])
def test_process_killed_while_it_saves_leaves_the_old_file(checkout, death, number):
    ends = lines_of(python(checkout, f"save_all({death})"))

    assert ends == [f"{file} {-number} True 1" for file in FILES]  # a scratch folder stays, which nobody reads


KILLED_AT = """
fetch, steps = helpers.fetch_fashion_mnist, int(sys.argv[1])

def dying(function, last_deed):
    def call(*arguments):
        global steps
        steps -= 1
        if steps == 0:
            last_deed(*arguments)
            die()
        return function(*arguments)
    return call

def write_a_part(old, new):
    new.write(old.read(4000))
    new.flush()

def disaster():
    helpers.shutil.copyfileobj = dying(helpers.shutil.copyfileobj, write_a_part)
    os.replace = dying(os.replace, lambda *_: None)

print(in_a_fork(fetch, disaster), *sorted(path.name for path in helpers._raw(helpers.DATA).iterdir()))
print(len(list(helpers.DATA.glob("fetch-*"))))  # its scratch folder lay beside the data, on the same disk, and stays
print(fetch() == helpers.DATA, len(list(helpers._raw(helpers.DATA).iterdir())))  # it checks every file
"""


@POSIX
@pytest.mark.parametrize("step, there", [(1, 0), (4, 0), (7, 2)])
def test_process_killed_while_it_fetches_leaves_whole_files_only(checkout, data, step, there):
    """Each of the four files is unpacked, in steps 1 to 4, then renamed, in steps 5 to 8."""
    result = python(checkout, KILLED_AT, step, FASHION_MNIST_DIR=str(data / "FashionMNIST" / "raw"))

    killed, left, again = lines_of(result)
    assert killed.split() == ["-9", *sorted(list(helpers.IDX_SHA256)[:there])] and (left, again) == ("1", "True 4")


# full disk

FETCH_IN_VAIN = """
in_a_fork(helpers.fetch_fashion_mnist, limit_files)
print([path.name for path in helpers.DATA.rglob("*")])
"""
FILL = """
def fill():
    global filler  # has no name and goes with the process
    filler = tempfile.TemporaryFile(dir=helpers.OUTPUT, buffering=0)
    try:
        while filler.write(bytes(4096)):
            pass
    except OSError:
        pass
save_all(fill)
"""


def check_disk_full(checkout, result, number):
    lines = iter(lines_of(result))
    for file, words, end in zip(FILES, lines, lines, strict=True):
        place = f"OSError: {checkout.parent / 'out' / file} cannot be written, and what was there stays: "
        assert words.startswith(f"{place}[Errno {number}] {os.strerror(number)}")
        assert words.endswith(
            "or set the environment variable VAE_OUTPUT to another folder before helpers is imported."
        )
        assert end == f"{file} 0 True 0"


@POSIX
def test_save_that_may_write_no_more_says_so_and_leaves_the_old_file(checkout):
    check_disk_full(checkout, python(checkout, "save_all(limit_files)"), errno.EFBIG)


def mounted(command):
    """What runs a command after a mount that only it can see, and that ends with it."""
    return ["unshare", "--mount", "sh", "-ec", f'{command}; exec "$@"', "sh"]


@MOUNTS
def test_full_disk_is_named_and_keeps_the_old_files(checkout):
    (checkout.parent / "out").mkdir()
    mount = mounted(f"mount -t tmpfs -o size=8m none '{checkout.parent / 'out'}'")

    check_disk_full(checkout, python(checkout, FILL, before=mount), errno.ENOSPC)


@POSIX
def test_fetch_that_may_write_no_more_says_so_and_leaves_nothing(checkout, data):
    result = python(checkout, FETCH_IN_VAIN, FASHION_MNIST_DIR=str(data / "FashionMNIST" / "raw"))

    words, left = lines_of(result)
    assert words.startswith(f"OSError: {checkout / 'data'} cannot be filled: [Errno {errno.EFBIG}]")
    assert "60 MB of room" in words and words.endswith("set FASHION_MNIST_DIR to that folder.")
    assert left == "['FashionMNIST', 'raw']"


# read-only checkout

BECOME_NOBODY = "become = lambda: os.geteuid() or os.seteuid(65534)\n"  # permission bits hold no root back
STAY = "become = lambda: None\n"
READ = "print(helpers.load_fashion_mnist('test')[0].shape)"
WRITE = "for write in WRITERS.values(): write()"
TRY_TO_WRITE = """
os.environ["FASHION_MNIST_DIR"] += "/FashionMNIST/raw"  # not in torchvision's layout: it would be copied
for write in (helpers.fetch_fashion_mnist, *WRITERS.values()):
    in_a_fork(write, become)
"""


def refusals(checkout, data, start, before=()):
    """Read all that a notebook reads, try all that it writes, and return the lines that were printed."""
    environment = {"FASHION_MNIST_DIR": str(data), "VAE_OUTPUT": str(checkout)}
    shape, *lines = lines_of(python(checkout, start + READ + TRY_TO_WRITE, before=before, **environment))
    assert shape == "torch.Size([10000, 784])"
    return lines


def check_refusals(checkout, lines, error):
    places = [checkout / "data", *(checkout / file for file in FILES)]
    for line, place in zip(lines, places, strict=True):
        assert line.startswith(f"{error}: {place} cannot be ")
        assert line.endswith(("set FASHION_MNIST_DIR to that folder.", "before helpers is imported."))


@POSIX
def test_checkout_of_another_user_can_be_read_and_says_what_cannot_be_written(checkout, data):
    for path in [checkout, *checkout.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    lines = refusals(checkout, data, BECOME_NOBODY)

    checkout.chmod(0o755)
    check_refusals(checkout, lines, "PermissionError")


def read_only(folder):
    return mounted(f"mount --bind '{folder}' '{folder}'; mount -o remount,ro,bind '{folder}'")


@MOUNTS
def test_read_only_file_system_can_be_read_and_says_what_cannot_be_written(checkout, data):
    check_refusals(checkout, refusals(checkout, data, STAY, read_only(checkout)), "OSError")


@MOUNTS
def test_output_folder_of_its_own_makes_a_read_only_checkout_work(checkout, data):
    result = python(checkout, READ + "\n" + WRITE, before=read_only(checkout), FASHION_MNIST_DIR=str(data))

    assert result.returncode == 0, result.stderr
    assert all((checkout.parent / "out" / file).is_file() for file in FILES)


# odd names


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}], ids=["", "C"])
def test_any_folder_name_and_locale_will_do(checkout, data, locale):
    place = Path(shutil.move(str(checkout), checkout.with_name("Größe ½ 衣服")))
    shutil.copytree(data / "FashionMNIST" / "raw", place / "given")
    code = [READ, WRITE, "print(helpers.load_vae(helpers.OWN).config['hidden'])", "helpers.claim('a', 1, 1, 1)"]

    result = python(place, "\n".join(code), FASHION_MNIST_DIR=str(place / "given"), VAE_OUTPUT=str(place), **locale)

    assert lines_of(result) == ["torch.Size([10000, 784])", "[256, 256, 256, 256]", "a: 1 (± 1)"]
    assert all((place / file).is_file() for file in FILES)
