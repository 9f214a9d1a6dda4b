"""storage: data found or fetched and verified, files whole or not at all, on every machine a reader may have.

The faults of a machine (killed, full disk, read-only, odd names) are met by real processes: tests/programs.
"""

import errno
import filecmp
import gzip
import hashlib
import importlib.util
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import FashionMNIST

import storage

NAMES = tuple(storage.IDX_SHA256)
FIRST, LAST = NAMES[0], NAMES[-1]  # a fault in the last file is met when the other three are already there
INSTALLED = storage.DEBIAN_PACKAGE
NOBODY = 65534
REPLIES = {
    "an error": b"HTTP/1.0 503 Service Unavailable\r\n\r\n",
    "wrong bytes": b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nnot these",
    "half a file": b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\nnot all",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nnot all",
    "nothing": b"",
    "another protocol": b"220 mail.example ESMTP\r\n",
}

PROGRAMS = Path(__file__).parent / "programs"
ROOMS = ("storage.py", "helpers.py", "figures.py", "exact.py", "explorer", "checkpoints/vae.pt")  # what they need
FILES = ("checkpoints/my_vae.pt", "images/plot.png", "images/latent_explorer.html")  # what a reader could lose
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of a file, and no users to become")
LINUX_ROOT = sys.platform == "linux" and os.geteuid() == 0
CAN_MOUNT = LINUX_ROOT and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0
MOUNTS = pytest.mark.skipif(not CAN_MOUNT, reason="only root may mount; the tests without a mount cover the rest")


@pytest.fixture(scope="session")
def plain():
    """The folder of the four original IDX files."""
    return storage.raw(storage.fetch_fashion_mnist())


@pytest.fixture(scope="session")
def packed(plain, tmp_path_factory):
    """A folder with the four files as .gz, as the Debian package has them."""
    folder = tmp_path_factory.mktemp("packed")
    for name in NAMES:
        level = 0 if "images" in name else 9  # stored images, because they are unpacked in almost every test
        (folder / f"{name}.gz").write_bytes(gzip.compress((plain / name).read_bytes(), level))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def data(packed, tmp_path, monkeypatch):
    """The data/ of a machine with no data, no FASHION_MNIST_DIR, no Debian package and no network."""
    with socket.create_server(("127.0.0.1", 0)) as closed_at_once:
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{closed_at_once.getsockname()[1]}/"])
    monkeypatch.setattr(storage, "DATA", tmp_path / "data")
    monkeypatch.setattr(storage, "DEBIAN_PACKAGE", tmp_path / "no package")
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield storage.DATA
    shutil.rmtree(tmp_path)


@pytest.fixture
def filled(data, plain):
    """The folder data/FashionMNIST/raw with copies of the four files."""
    return Path(shutil.copytree(plain, data / "FashionMNIST" / "raw"))


@pytest.fixture
def given(data, packed, tmp_path, monkeypatch):
    """A folder with copies of the four .gz files, named by FASHION_MNIST_DIR."""
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "given"))
    return Path(shutil.copytree(packed, tmp_path / "given"))


@pytest.fixture
def serve(data, monkeypatch):
    """A function that starts an HTTP server with the given handler and makes it torchvision's only mirror."""
    servers = []

    def start(handler):
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=[0.01], daemon=True).start()
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{servers[-1].server_port}/"])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def mirror(data, packed, serve, monkeypatch):
    """The folder of a mirror with the four .gz files, whose MD5s torchvision takes for the original ones."""
    folder = Path(shutil.copytree(packed, data.parent / "mirror"))
    md5s = [(f"{name}.gz", hashlib.md5((folder / f"{name}.gz").read_bytes()).hexdigest()) for name in NAMES]
    monkeypatch.setattr(FashionMNIST, "resources", md5s)
    serve(partial(SimpleHTTPRequestHandler, directory=folder))
    return folder


@pytest.fixture
def root(data, packed, monkeypatch):
    """A folder for data/ with a copy of the Debian package; not below tmp_path, which other users may not enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        monkeypatch.setattr(storage, "DATA", folder / "data")
        monkeypatch.setattr(storage, "DEBIAN_PACKAGE", Path(shutil.copytree(packed, folder / "package")))
        yield folder


@pytest.fixture
def checkout():
    """A copy of the rooms that read or write files, below a folder that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="vae ", ignore_cleanup_errors=True) as name:
        folder = Path(name) / "checkout"
        (folder / "checkpoints").mkdir(parents=True)
        for room in ROOMS:
            copy = shutil.copytree if (storage.ROOT / room).is_dir() else shutil.copy
            copy(storage.ROOT / room, folder / room)
        Path(name).chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def laid_out():
    """A folder with the four files in torchvision's layout."""
    return storage.fetch_fashion_mnist()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function that runs a program in a checkout: it writes to the folder beside it and uses one thread."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("VAE_OUTPUT", "FASHION_MNIST_DIR")}
    font_cache = {"MPLBACKEND": "Agg", "MPLCONFIGDIR": str(tmp_path_factory.mktemp("matplotlib"))}

    def run(checkout, program, *arguments, before=(), **environment):
        command = [*before, sys.executable, str(PROGRAMS / program), *map(str, arguments)]
        own = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", **font_cache}
        environment = {**inherited, **own, "VAE_OUTPUT": str(checkout.parent / "out"), **environment}
        result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=300)
        assert result.returncode == 0, result.stderr
        return [line for line in result.stdout.splitlines() if not line.startswith("Weights:")]

    return run


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def files_in_data():
    paths = [path for path in storage.DATA.rglob("*") if path.is_file() or path.name.startswith("fetch-")]
    return {path.relative_to(storage.DATA): path.stat().st_size for path in paths}


def data_equal(plain):
    """Whether data/ has the four original files, bit for bit, and nothing else."""
    raw = storage.DATA / "FashionMNIST" / "raw"
    return len(files_in_data()) == 4 and filecmp.cmpfiles(plain, raw, NAMES, shallow=False)[0] == list(NAMES)


@contextmanager
def refused(error, *words):
    """Expect `error` with all `words` in its message, and the same files in data/ as before."""
    before = files_in_data()
    with pytest.raises(error) as caught:
        yield
    assert [word for word in words if word not in str(caught.value)] == []
    assert files_in_data() == before


@contextmanager
def without_privileges():
    """Lay down root's rights, which no permission bit holds back."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


# the root


def test_a_notebook_that_imports_from_beside_its_folder_finds_the_same_root():
    place = storage.ROOT / "notebooks" / ".." / "storage.py"  # as the setup cell has it
    spec = importlib.util.spec_from_file_location("storage_again", place)
    spec.loader.exec_module(again := importlib.util.module_from_spec(spec))
    assert ".." not in again.ROOT.parts and again.ROOT == Path(storage.__file__).parent.resolve()


# the four places


def test_complete_data_folder_is_used_before_any_other_place(filled, plain, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DIR", str(plain.parents[1]))

    assert storage.fetch_fashion_mnist() == storage.DATA


def test_fashion_mnist_dir_with_gz_files_is_used_before_the_debian_package(given, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "DEBIAN_PACKAGE", tmp_path)  # this folder has no such files: using it would raise

    assert storage.fetch_fashion_mnist() == storage.DATA
    assert data_equal(plain)


def test_fashion_mnist_dir_may_hold_plain_idx_files(data, plain, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DIR", str(plain))

    assert storage.fetch_fashion_mnist() == data
    assert data_equal(plain)


def test_fashion_mnist_dir_in_torchvision_layout_is_used_in_place(data, plain, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DIR", str(plain.parents[1]))

    assert storage.fetch_fashion_mnist() == plain.parents[1]
    assert not data.exists()


def test_folders_are_counted_from_the_repository_and_not_from_where_a_kernel_runs(data, plain, monkeypatch, tmp_path):
    monkeypatch.setattr(storage, "ROOT", plain.parents[2])
    monkeypatch.setenv("FASHION_MNIST_DIR", plain.parents[1].name)
    monkeypatch.chdir(tmp_path)
    assert storage.fetch_fashion_mnist() == plain.parents[1]

    repository = Path(storage.__file__).parent
    monkeypatch.setenv("VAE_OUTPUT", "out")
    assert runpy.run_path(storage.__file__)["OUTPUT"] == repository / "out"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAE_OUTPUT", "~/out")
    assert runpy.run_path(storage.__file__)["OUTPUT"] == tmp_path / "out"
    monkeypatch.setenv("FASHION_MNIST_DIR", "~/none")
    with pytest.raises(FileNotFoundError, match=re.escape(f"there is no {tmp_path / 'none'}")):
        storage.fetch_fashion_mnist()
    monkeypatch.delenv("VAE_OUTPUT")
    assert runpy.run_path(storage.__file__)["OUTPUT"] == repository


def test_debian_package_is_used_before_the_download(data, packed, plain, monkeypatch):
    monkeypatch.setattr(storage, "DEBIAN_PACKAGE", packed)

    assert storage.fetch_fashion_mnist() == data
    assert data_equal(plain)


def test_debian_package_is_looked_for_where_debian_puts_it():
    assert Path("/usr/share/datasets/fashion-mnist") == INSTALLED


@pytest.mark.skipif(not INSTALLED.is_dir(), reason="the Debian package is not installed")
def test_installed_debian_package_is_found(data, plain, monkeypatch):
    monkeypatch.setattr(storage, "DEBIAN_PACKAGE", INSTALLED)

    assert storage.fetch_fashion_mnist() == data
    assert data_equal(plain)


def test_download_fills_data_when_no_other_place_has_the_files(mirror, plain):
    assert storage.fetch_fashion_mnist() == storage.DATA
    assert data_equal(plain)


# what is wrong with the data


@pytest.mark.parametrize("damage, name", [(truncate, FIRST), (alter, LAST)])
def test_damaged_archive_is_named_and_nothing_of_it_stays(given, packed, plain, damage, name):
    damage(given / f"{name}.gz")

    with refused(ValueError, str(given / f"{name}.gz"), "is damaged", "Replace it by the original file and run this"):
        storage.fetch_fashion_mnist()
    shutil.copy(packed / f"{name}.gz", given)
    assert storage.fetch_fashion_mnist() and data_equal(plain)


def test_intact_archive_of_another_file_is_refused_and_nothing_of_it_stays(given, packed, plain):
    shutil.copy(given / f"{FIRST}.gz", given / f"{LAST}.gz")

    differ = "expected SHA-256 0402a96d92fd..., found c59f468a2f67..."
    with refused(ValueError, LAST, differ, "Replace it by the original file."):
        storage.fetch_fashion_mnist()
    shutil.copy(packed / f"{LAST}.gz", given)
    assert storage.fetch_fashion_mnist() and data_equal(plain)


def test_nothing_is_written_before_it_is_verified(given, monkeypatch):
    shutil.copy(given / f"{LAST}.gz", given / f"{FIRST}.gz")
    written, write = [], Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: written.append(path) or write(path, content))

    with refused(ValueError, FIRST):
        storage.fetch_fashion_mnist()
    assert written == []


@pytest.mark.parametrize("damage, name", [(truncate, FIRST), (alter, LAST)])
def test_damaged_file_in_data_is_named_and_fetched_anew_once_deleted(filled, packed, plain, damage, name, monkeypatch):
    monkeypatch.setattr(storage, "DEBIAN_PACKAGE", packed)
    damage(filled / name)

    with refused(ValueError, str(filled / name), "expected SHA-256", "Delete it and run this again"):
        storage.fetch_fashion_mnist()
    (filled / name).unlink()
    assert storage.fetch_fashion_mnist() and data_equal(plain)


def test_damaged_file_in_torchvision_layout_is_named(data, filled, tmp_path, monkeypatch):
    shutil.move(data, tmp_path / "theirs")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "theirs"))
    alter(tmp_path / "theirs" / "FashionMNIST" / "raw" / LAST)

    theirs = str(tmp_path / "theirs" / "FashionMNIST" / "raw" / LAST)
    with refused(ValueError, theirs, "expected SHA-256", "Replace it by the original file."):
        storage.fetch_fashion_mnist()
    assert not data.exists()


def test_file_missing_in_data_is_completed(filled, packed, plain, monkeypatch):
    monkeypatch.setattr(storage, "DEBIAN_PACKAGE", packed)
    (filled / LAST).unlink()

    assert storage.fetch_fashion_mnist() and data_equal(plain)


def test_file_missing_in_fashion_mnist_dir_is_named(given, packed, plain):
    (given / f"{LAST}.gz").unlink()

    with refused(FileNotFoundError, str(given), f"expected the file {LAST}.gz, which is missing", "three ways"):
        storage.fetch_fashion_mnist()
    shutil.copy(packed / f"{LAST}.gz", given)
    assert storage.fetch_fashion_mnist() and data_equal(plain)


def test_file_missing_in_torchvision_layout_is_named(data, filled, tmp_path, monkeypatch):
    (filled / LAST).unlink()
    shutil.move(data, tmp_path / "theirs")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "theirs"))

    with refused(FileNotFoundError, str(tmp_path / "theirs"), f"expected the file {LAST}"):
        storage.fetch_fashion_mnist()


def test_fashion_mnist_dir_that_does_not_exist_is_refused(data, packed, plain, monkeypatch):
    monkeypatch.setattr(storage, "DEBIAN_PACKAGE", packed)  # a mistyped folder is not passed over in silence
    monkeypatch.setenv("FASHION_MNIST_DIR", str(packed / "typo"))

    with refused(FileNotFoundError, "FASHION_MNIST_DIR", f"there is no {packed / 'typo'}", "three ways"):
        storage.fetch_fashion_mnist()
    monkeypatch.delenv("FASHION_MNIST_DIR")
    assert storage.fetch_fashion_mnist() and data_equal(plain)


def test_unreachable_network_gets_the_three_ways_to_the_data(data, given, plain, monkeypatch):
    monkeypatch.delenv("FASHION_MNIST_DIR")

    with refused(FileNotFoundError, "download failed", "(1) connect", "(2) on Debian", "(3) set FASHION_MNIST_DIR"):
        storage.fetch_fashion_mnist()
    monkeypatch.setenv("FASHION_MNIST_DIR", str(given))
    assert storage.fetch_fashion_mnist() and data_equal(plain)


@pytest.mark.parametrize("answer", REPLIES)
def test_server_with_a_bad_answer_gets_the_three_ways_to_the_data(serve, answer):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.wfile.write(REPLIES[answer])

    serve(Handler)

    with refused(FileNotFoundError, "download failed", "(1) connect", "(2) on Debian", "(3) set FASHION_MNIST_DIR"):
        storage.fetch_fashion_mnist()


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_is_full_during_the_download_is_no_fault_of_the_network(data, monkeypatch, reason):
    def fill(*_, **__):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(storage, "FashionMNIST", fill)
    with refused(OSError, "cannot be filled", os.strerror(reason), "60 MB of room"):
        storage.fetch_fashion_mnist()


def test_a_download_of_something_else_is_refused_and_nothing_of_it_stays(data, plain, monkeypatch):
    def fill(target, download):
        storage.raw(target).mkdir(parents=True)
        for name in NAMES:
            (storage.raw(target) / name).write_bytes(b"something else")

    monkeypatch.setattr(storage, "FashionMNIST", fill)
    with refused(ValueError, f"The download of {FIRST} is not the original", "Run this again"):
        storage.fetch_fashion_mnist()
    assert not any((storage.raw(data) / name).exists() for name in NAMES)


def test_server_that_lacks_the_last_file_leaves_nothing_of_the_others(mirror, packed, plain):
    (mirror / f"{LAST}.gz").unlink()

    with refused(FileNotFoundError, f"{LAST}.gz", "404"):
        storage.fetch_fashion_mnist()
    shutil.copy(packed / f"{LAST}.gz", mirror)
    assert storage.fetch_fashion_mnist() and data_equal(plain)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not hold the owner back from a read-only folder")
@pytest.mark.parametrize("folder", ["", "data", "data/FashionMNIST/raw"])
def test_folder_that_cannot_be_written_is_named_with_a_way_out(root, plain, folder):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path == root / folder else 0o777)

    with without_privileges(), refused(PermissionError, f"{root / 'data'} cannot be filled", "FASHION_MNIST_DIR"):
        storage.fetch_fashion_mnist()
    (root / folder).chmod(0o755)
    assert storage.fetch_fashion_mnist() and data_equal(plain)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file that its owner may not read")
def test_file_that_cannot_be_read_is_named_with_the_three_ways(root, packed, plain):
    package = storage.DEBIAN_PACKAGE
    for path in (root, package):
        path.chmod(0o777)
    (package / f"{LAST}.gz").chmod(0)

    with without_privileges(), refused(PermissionError, f"{package / LAST}.gz cannot be read: ", "three ways"):
        storage.fetch_fashion_mnist()
    (package / f"{LAST}.gz").chmod(0o644)
    assert storage.fetch_fashion_mnist() and data_equal(plain)


# whole files


def test_whole_file_gets_its_place_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"

    with storage.whole_file(path) as scratch:
        scratch.write_text("all of it")
        assert scratch.name == "file.txt" and not path.exists()

    assert path.read_text() == "all of it"
    assert [other.name for other in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_inside_the_block_leaves_the_old_file_and_no_other(tmp_path, error):
    (tmp_path / "file.txt").write_text("as it was")

    with pytest.raises(error, match="mine"), storage.whole_file(tmp_path / "file.txt") as scratch:
        scratch.write_text("half")
        raise error("mine")

    assert (tmp_path / "file.txt").read_text() == "as it was"
    assert [other.name for other in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError, OSError])
def test_os_error_keeps_its_kind_and_says_what_stays_and_what_to_do(tmp_path, error):
    path = tmp_path / "file.txt"

    with pytest.raises(error) as caught, storage.whole_file(path):
        raise error(errno.EIO, "the disk is on fire")

    said = str(caught.value)
    assert said.startswith(f"{path} cannot be written, and what was there stays: [Errno {errno.EIO}] the disk is on")
    assert said.endswith("or set the environment variable VAE_OUTPUT to another folder before helpers is imported.")


def test_file_where_a_folder_should_be_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OSError, match="cannot be written"), storage.whole_file(tmp_path / "file" / "my_vae.pt"):
        raise AssertionError("there is nowhere to write to")


# killed, or no room


def check_full(checkout, lines, number):
    for file, words, end in zip(FILES, lines[::2], lines[1::2], strict=True):
        place = f"OSError: {checkout.parent / 'out' / file} cannot be written, and what was there stays: "
        assert words.startswith(f"{place}[Errno {number}] {os.strerror(number)}")
        assert end == f"{file} 0 True 0"


@POSIX
def test_save_of_a_process_that_is_killed_or_may_write_no_more_leaves_the_old_file(checkout, run):
    lines = run(checkout, "save.py", "die_halfway", "die_late", "limit_files")

    assert lines[:3] == [f"{file} {-signal.SIGXFSZ} True 1" for file in FILES]  # nobody reads the scratch folder
    assert lines[3:6] == [f"{file} {-signal.SIGKILL} True 1" for file in FILES]
    check_full(checkout, lines[6:], errno.EFBIG)


@POSIX
def test_fetch_of_a_process_that_is_killed_or_may_write_no_more_leaves_whole_files_or_none(checkout, run, laid_out):
    first, fourth, seventh, words, left = run(
        checkout, "fetch.py", 1, 4, 7, FASHION_MNIST_DIR=str(storage.raw(laid_out))
    )

    assert first == fourth == "-9 1 True"
    assert seventh.split() == ["-9", "1", "True", *sorted(NAMES[:2])]
    assert words.startswith(f"OSError: {checkout / 'data'} cannot be filled: [Errno {errno.EFBIG}]")
    assert "60 MB of room" in words and words.endswith("set FASHION_MNIST_DIR to that folder.")
    assert left == "['FashionMNIST', 'raw']"


def mounted(command):
    """What runs a command after a mount that only it can see, and that ends with it."""
    return ["unshare", "--mount", "sh", "-ec", f'{command}; exec "$@"', "sh"]


@MOUNTS
def test_full_disk_is_named_and_keeps_the_old_files(checkout, run):
    (checkout.parent / "out").mkdir()
    mount = mounted(f"mount -t tmpfs -o size=8m none '{checkout.parent / 'out'}'")

    check_full(checkout, run(checkout, "save.py", "fill_disk", before=mount), errno.ENOSPC)


# read-only


def check_refusals(checkout, lines, error):
    """All that a notebook reads was read, and all that it writes was refused with a way out."""
    shape, *refusals = lines
    assert shape == "torch.Size([10000, 784])"
    for line, place in zip(refusals, [checkout / "data", *(checkout / file for file in FILES)], strict=True):
        assert line.startswith(f"{error}: {place} cannot be ")
        assert line.endswith(("set FASHION_MNIST_DIR to that folder.", "before helpers is imported."))


@POSIX
def test_checkout_of_another_user_can_be_read_and_says_what_cannot_be_written(checkout, run, laid_out):
    for path in [checkout, *checkout.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    there = {"FASHION_MNIST_DIR": str(laid_out), "VAE_OUTPUT": str(checkout)}
    lines = run(checkout, "read_and_try_to_write.py", "nobody", **there)

    checkout.chmod(0o755)
    check_refusals(checkout, lines, "PermissionError")


def read_only(folder):
    return mounted(f"mount --bind '{folder}' '{folder}'; mount -o remount,ro,bind '{folder}'")


@MOUNTS
def test_read_only_file_system_can_be_read_and_says_what_cannot_be_written(checkout, run, laid_out):
    there = {"FASHION_MNIST_DIR": str(laid_out), "VAE_OUTPUT": str(checkout)}

    lines = run(checkout, "read_and_try_to_write.py", before=read_only(checkout), **there)

    check_refusals(checkout, lines, "OSError")


@MOUNTS
def test_output_folder_of_its_own_makes_a_read_only_checkout_work(checkout, run, laid_out):
    run(checkout, "read_and_write.py", before=read_only(checkout), FASHION_MNIST_DIR=str(laid_out))

    assert all((checkout.parent / "out" / file).is_file() for file in FILES)


# odd names


def test_any_folder_name_will_do_in_a_locale_without_its_letters(checkout, run, laid_out):
    place = Path(shutil.move(str(checkout), checkout.with_name("Größe ½ 衣服")))
    shutil.copytree(storage.raw(laid_out), place / "given")
    there = {"FASHION_MNIST_DIR": str(place / "given"), "VAE_OUTPUT": str(place)}

    lines = run(place, "read_and_write.py", **there, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")

    assert lines == ["torch.Size([10000, 784])", "[256, 256, 256, 256]", "· a: 1 nats"]
    assert all((place / file).is_file() for file in FILES)
