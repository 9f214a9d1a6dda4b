"""Where the files of the series lie, and how they get there: found or fetched, verified, written whole or not at all.

What the story need not show. Notebooks never import it; `helpers`, `figures` and `explorer` do.
"""

import errno
import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from torchvision.datasets import FashionMNIST

ROOT = Path(__file__).resolve().parent
DATA = ROOT / "data"
OUTPUT = ROOT / Path(os.environ.get("VAE_OUTPUT", "")).expanduser()  # the tests set it, so that they overwrite nothing

IDX_SHA256 = {  # of the uncompressed files
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
DEBIAN_PACKAGE = Path("/usr/share/datasets/fashion-mnist")
REPLACE = "Replace it by the original file"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # no fault of the network
THREE_WAYS = (
    "There are three ways to get the data: (1) connect to the internet and run this again; (2) on Debian or Ubuntu, "
    "`apt-get install dataset-fashion-mnist`; (3) set FASHION_MNIST_DIR to a folder with the files "
    f"{', '.join(f'{name}.gz' for name in IDX_SHA256)}."
)


def fetch_fashion_mnist() -> Path:
    """Return the folder that torchvision reads Fashion-MNIST from, after filling it where necessary.

    Looks in data/, in the folder named by FASHION_MNIST_DIR, where the Debian package dataset-fashion-mnist puts its
    files, and then downloads. All four files are checked against their SHA-256. Raises FileNotFoundError when no way
    leads to the data or FASHION_MNIST_DIR is no folder, ValueError when a file is damaged, OSError when data/ cannot be
    written; nothing half-written stays.
    """
    given = os.environ.get("FASHION_MNIST_DIR")
    given = ROOT / Path(given).expanduser() if given else None
    if given and not given.is_dir():
        raise FileNotFoundError(f"FASHION_MNIST_DIR: expected a folder, but there is no {given}. {THREE_WAYS}")
    for root in filter(None, (DATA, given)):
        if all((raw(root) / name).is_file() for name in IDX_SHA256):
            advice = "Delete it and run this again" if root == DATA else REPLACE
            for name in IDX_SHA256:
                _verify((raw(root) / name).read_bytes(), name, raw(root) / name, advice)
            return root
    source = given or (DEBIAN_PACKAGE if DEBIAN_PACKAGE.is_dir() else None)
    with _filling_data():
        raw(DATA).mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix="fetch-", dir=DATA)
    with scratch:
        folder = _unpack(source, Path(scratch.name)) if source else _download(Path(scratch.name))
        with _filling_data():
            for name in IDX_SHA256:
                os.replace(folder / name, raw(DATA) / name)
    return DATA


def raw(root: Path) -> Path:
    """Return the folder below `root` in which torchvision expects the four files."""
    return root / "FashionMNIST" / "raw"


@contextmanager
def _filling_data() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"{DATA} cannot be filled: {error}. Make the folder writable and 60 MB of room, or unpack the four files "
            "into FashionMNIST/raw/ in another folder and set FASHION_MNIST_DIR to that folder."
        ) from error


def _unpack(source: Path, target: Path) -> Path:
    source = raw(source) if raw(source).is_dir() else source
    for name in IDX_SHA256:
        original = source / name if (source / name).is_file() else source / f"{name}.gz"
        if not original.is_file():
            raise FileNotFoundError(f"{source}: expected the file {name}.gz, which is missing. {THREE_WAYS}")
        try:
            content = original.read_bytes()
        except OSError as error:
            raise type(error)(f"{original} cannot be read: {error}. {THREE_WAYS}") from error
        try:
            content = gzip.decompress(content) if original.suffix else content
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            reason = f"{original} is damaged ({error})"
            raise ValueError(f"{reason}. {REPLACE} and run this again.") from error
        _verify(content, name, original, REPLACE)
        with _filling_data():
            (target / name).write_bytes(content)
    return target


def _download(target: Path) -> Path:
    try:
        FashionMNIST(target, download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        if getattr(error, "errno", None) in NO_ROOM:
            with _filling_data():
                raise
        reason = f"Fashion-MNIST is not in {DATA}, and the download failed ({' '.join(str(error).split())})"
        raise FileNotFoundError(f"{reason}. {THREE_WAYS}") from error
    for name in IDX_SHA256:
        _verify((raw(target) / name).read_bytes(), name, f"The download of {name}", "Run this again")
    return raw(target)


def _verify(content: bytes, name: str, place: Path | str, advice: str) -> None:
    expected, found = IDX_SHA256[name], hashlib.sha256(content).hexdigest()
    if found == expected:
        return
    differ = f"expected SHA-256 {expected[:12]}..., found {found[:12]}..."
    raise ValueError(f"{place} is not the original file: {differ} {advice}.")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place to write to; what was written there becomes `path` when the block ends without an error.

    So a reader's file is whole or as it was, whenever the process dies. Raises OSError, which says so and what to do.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="save-", dir=path.parent) as folder:
            yield Path(folder) / path.name
            os.replace(Path(folder) / path.name, path)
    except OSError as error:
        raise type(error)(
            f"{path} cannot be written, and what was there stays: {error}. Make the folder writable and room on the "
            "disk, or set the environment variable VAE_OUTPUT to another folder before helpers is imported."
        ) from error
