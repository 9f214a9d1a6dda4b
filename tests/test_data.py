"""Tests of the data section of helpers.py: what is loaded, where it is looked for, and what each fault says."""

import filecmp
import gzip
import hashlib
import os
import shutil
import socket
import tempfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import FashionMNIST

import helpers

NAMES = tuple(helpers.IDX_SHA256)
FIRST, LAST = NAMES[0], NAMES[-1]  # a fault in the last file is met when the other three are already there
INSTALLED = helpers.DEBIAN_PACKAGE
NOBODY = 65534
REPLIES = {
    "an error": b"HTTP/1.0 503 Service Unavailable\r\n\r\n",
    "wrong bytes": b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nnot these",
    "half a file": b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\nnot all",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nnot all",
    "nothing": b"",
    "another protocol": b"220 mail.example ESMTP\r\n",
}


@pytest.fixture(scope="session")
def plain():
    """The folder of the four original IDX files."""
    return helpers.fetch_fashion_mnist() / "FashionMNIST" / "raw"


@pytest.fixture(scope="session")
def packed(plain, tmp_path_factory):
    """A folder with the four files as .gz, as the Debian package has them."""
    folder = tmp_path_factory.mktemp("packed")
    for name in NAMES:
        level = 0 if "images" in name else 9  # stored images, because they are unpacked in almost every test
        (folder / f"{name}.gz").write_bytes(gzip.compress((plain / name).read_bytes(), level))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def splits(plain):
    return {split: helpers.load_fashion_mnist(split) for split in ("train", "validation", "test")}


@pytest.fixture
def data(packed, tmp_path, monkeypatch):
    """The data/ of a machine with no data, no FASHION_MNIST_DIR, no Debian package and no network."""
    with socket.create_server(("127.0.0.1", 0)) as closed_at_once:
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{closed_at_once.getsockname()[1]}/"])
    monkeypatch.setattr(helpers, "DATA", tmp_path / "data")
    monkeypatch.setattr(helpers, "DEBIAN_PACKAGE", tmp_path / "no package")
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield helpers.DATA
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
        monkeypatch.setattr(helpers, "DATA", folder / "data")
        monkeypatch.setattr(helpers, "DEBIAN_PACKAGE", Path(shutil.copytree(packed, folder / "package")))
        yield folder


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def files_in_data():
    paths = [path for path in helpers.DATA.rglob("*") if path.is_file() or path.name.startswith("fetch-")]
    return {path.relative_to(helpers.DATA): path.stat().st_size for path in paths}


def data_equal(plain):
    """Whether data/ has the four original files, bit for bit, and nothing else."""
    raw = helpers.DATA / "FashionMNIST" / "raw"
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


def idx(plain, name, header):
    return np.frombuffer((plain / name).read_bytes(), np.uint8, offset=header)


# what is loaded


@pytest.mark.parametrize("split, size", [("train", 55_000), ("validation", 5_000), ("test", 10_000)])
def test_split_has_the_promised_size_types_and_range(splits, split, size):
    x, y = splits[split]

    assert (x.shape, x.dtype) == ((size, 784), torch.float32)
    assert (y.shape, y.dtype) == ((size,), torch.int64)
    assert (x.min(), x.max()) == (0, 1)
    assert y.unique().tolist() == list(range(10))


def test_train_then_validation_is_the_training_file_in_order(splits, plain):
    x, y = (torch.cat(parts).numpy() for parts in zip(splits["train"], splits["validation"]))

    images = idx(plain, "train-images-idx3-ubyte", header=16).reshape(60_000, 784)
    assert np.array_equal(x, images / np.float32(255))
    assert np.array_equal(y, idx(plain, "train-labels-idx1-ubyte", header=8))


def test_test_split_is_the_test_file_in_order(splits, plain):
    x, y = splits["test"]

    images = idx(plain, "t10k-images-idx3-ubyte", header=16).reshape(10_000, 784)
    assert np.array_equal(x, images / np.float32(255))
    assert np.array_equal(y, idx(plain, "t10k-labels-idx1-ubyte", header=8))


def test_every_class_has_the_published_number_of_images(splits):
    train, validation, test = (np.bincount(splits[split][1]) for split in ("train", "validation", "test"))

    assert (train + validation).tolist() == [6_000] * 10
    assert test.tolist() == [1_000] * 10


@pytest.mark.parametrize("split", ["valid", "Train", "", None, 0])
def test_unknown_split_is_refused_with_the_known_names(split):
    with pytest.raises(ValueError) as caught:
        helpers.load_fashion_mnist(split)

    assert str(caught.value) == f"split: expected one of train, validation, test, received {split!r}"


# the four places


def test_complete_data_folder_is_used_before_any_other_place(filled, plain, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DIR", str(plain.parents[1]))

    assert helpers.fetch_fashion_mnist() == helpers.DATA


def test_fashion_mnist_dir_with_gz_files_is_used_before_the_debian_package(given, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(helpers, "DEBIAN_PACKAGE", tmp_path)  # this folder has no such files: using it would raise

    assert helpers.fetch_fashion_mnist() == helpers.DATA
    assert data_equal(plain)


def test_fashion_mnist_dir_may_hold_plain_idx_files(data, plain, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DIR", str(plain))

    assert helpers.fetch_fashion_mnist() == data
    assert data_equal(plain)


def test_fashion_mnist_dir_in_torchvision_layout_is_used_in_place(data, plain, splits, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DIR", str(plain.parents[1]))

    x, _ = helpers.load_fashion_mnist("validation")

    assert torch.equal(x, splits["validation"][0])
    assert not data.exists()


def test_debian_package_is_used_before_the_download(data, packed, plain, monkeypatch):
    monkeypatch.setattr(helpers, "DEBIAN_PACKAGE", packed)

    assert helpers.fetch_fashion_mnist() == data
    assert data_equal(plain)


def test_debian_package_is_looked_for_where_debian_puts_it():
    assert Path("/usr/share/datasets/fashion-mnist") == INSTALLED


@pytest.mark.skipif(not INSTALLED.is_dir(), reason="the Debian package is not installed")
def test_installed_debian_package_is_found(data, plain, monkeypatch):
    monkeypatch.setattr(helpers, "DEBIAN_PACKAGE", INSTALLED)

    assert helpers.fetch_fashion_mnist() == data
    assert data_equal(plain)


def test_download_fills_data_when_no_other_place_has_the_files(mirror, plain):
    assert helpers.fetch_fashion_mnist() == helpers.DATA
    assert data_equal(plain)


# faults


@pytest.mark.parametrize("damage, name", [(truncate, FIRST), (alter, LAST)])
def test_damaged_archive_is_named_and_nothing_of_it_stays(given, packed, plain, damage, name):
    damage(given / f"{name}.gz")

    with refused(ValueError, str(given / f"{name}.gz"), "is damaged", "Replace it by the original file and run this"):
        helpers.fetch_fashion_mnist()
    shutil.copy(packed / f"{name}.gz", given)
    assert helpers.fetch_fashion_mnist() and data_equal(plain)


def test_intact_archive_of_another_file_is_named(given):
    shutil.copy(given / f"{FIRST}.gz", given / f"{LAST}.gz")

    with refused(ValueError, str(given / f"{LAST}.gz")):
        helpers.fetch_fashion_mnist()


def test_intact_archive_of_another_file_is_refused_and_nothing_of_it_stays(given, packed, plain):
    shutil.copy(given / f"{FIRST}.gz", given / f"{LAST}.gz")

    with refused(ValueError, LAST, "expected SHA-256 0402a96d92fd..., found c59f468a2f67..."):
        helpers.fetch_fashion_mnist()
    shutil.copy(packed / f"{LAST}.gz", given)
    assert helpers.fetch_fashion_mnist() and data_equal(plain)


@pytest.mark.parametrize("damage, name", [(truncate, FIRST), (alter, LAST)])
def test_damaged_file_in_data_is_named_and_fetched_anew_once_deleted(filled, packed, plain, damage, name, monkeypatch):
    monkeypatch.setattr(helpers, "DEBIAN_PACKAGE", packed)
    damage(filled / name)

    with refused(ValueError, str(filled / name), "expected SHA-256", "Delete it and run this again"):
        helpers.fetch_fashion_mnist()
    (filled / name).unlink()
    assert helpers.fetch_fashion_mnist() and data_equal(plain)


def test_damaged_file_in_torchvision_layout_is_named(data, filled, tmp_path, monkeypatch):
    shutil.move(data, tmp_path / "theirs")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "theirs"))
    alter(tmp_path / "theirs" / "FashionMNIST" / "raw" / LAST)

    with refused(ValueError, str(tmp_path / "theirs" / "FashionMNIST" / "raw" / LAST), "expected SHA-256"):
        helpers.fetch_fashion_mnist()
    assert not data.exists()


def test_file_missing_in_data_is_completed(filled, packed, plain, monkeypatch):
    monkeypatch.setattr(helpers, "DEBIAN_PACKAGE", packed)
    (filled / LAST).unlink()

    assert helpers.fetch_fashion_mnist() and data_equal(plain)


def test_file_missing_in_fashion_mnist_dir_is_named(given, packed, plain):
    (given / f"{LAST}.gz").unlink()

    with refused(FileNotFoundError, str(given), f"expected the file {LAST}.gz, which is missing", "three ways"):
        helpers.fetch_fashion_mnist()
    shutil.copy(packed / f"{LAST}.gz", given)
    assert helpers.fetch_fashion_mnist() and data_equal(plain)


def test_file_missing_in_torchvision_layout_is_named(data, filled, tmp_path, monkeypatch):
    (filled / LAST).unlink()
    shutil.move(data, tmp_path / "theirs")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "theirs"))

    with refused(FileNotFoundError, str(tmp_path / "theirs"), f"expected the file {LAST}"):
        helpers.fetch_fashion_mnist()


def test_fashion_mnist_dir_that_does_not_exist_is_refused(data, packed, plain, monkeypatch):
    monkeypatch.setattr(helpers, "DEBIAN_PACKAGE", packed)  # a mistyped folder is not passed over in silence
    monkeypatch.setenv("FASHION_MNIST_DIR", str(packed / "typo"))

    with refused(FileNotFoundError, "FASHION_MNIST_DIR", f"there is no {packed / 'typo'}", "three ways"):
        helpers.fetch_fashion_mnist()
    monkeypatch.delenv("FASHION_MNIST_DIR")
    assert helpers.fetch_fashion_mnist() and data_equal(plain)


def test_unreachable_network_gets_the_three_ways_to_the_data(data, given, plain, monkeypatch):
    monkeypatch.delenv("FASHION_MNIST_DIR")

    with refused(FileNotFoundError, "download failed", "(1) connect", "(2) on Debian", "(3) set FASHION_MNIST_DIR"):
        helpers.fetch_fashion_mnist()
    monkeypatch.setenv("FASHION_MNIST_DIR", str(given))
    assert helpers.fetch_fashion_mnist() and data_equal(plain)


@pytest.mark.parametrize("answer", REPLIES)
def test_server_with_a_bad_answer_gets_the_three_ways_to_the_data(serve, answer):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.wfile.write(REPLIES[answer])

    serve(Handler)

    with refused(FileNotFoundError, "download failed", "(1) connect", "(2) on Debian", "(3) set FASHION_MNIST_DIR"):
        helpers.fetch_fashion_mnist()


def test_server_that_lacks_the_last_file_leaves_nothing_of_the_others(mirror, packed, plain):
    (mirror / f"{LAST}.gz").unlink()

    with refused(FileNotFoundError, f"{LAST}.gz", "404"):
        helpers.fetch_fashion_mnist()
    shutil.copy(packed / f"{LAST}.gz", mirror)
    assert helpers.fetch_fashion_mnist() and data_equal(plain)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not hold the owner back from a read-only folder")
@pytest.mark.parametrize("folder", ["", "data", "data/FashionMNIST/raw"])
def test_folder_that_cannot_be_written_is_named_with_a_way_out(root, plain, folder):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path == root / folder else 0o777)

    with without_privileges(), refused(PermissionError, f"{root / 'data'} cannot be filled", "FASHION_MNIST_DIR"):
        helpers.fetch_fashion_mnist()
    (root / folder).chmod(0o755)
    assert helpers.fetch_fashion_mnist() and data_equal(plain)
