"""What is under test writes outside the repository, and nbval takes one claim of a notebook for another.

`✓` says that a measured number lies within its margin, so the digits behind it may differ between machines. Nothing
else may: `✗`, a changed name or unit and every other output are compared as they are.

Not in tests/, where pytest would not look for it when a notebook is tested alone, which then overwrote images/.
"""

import os
import shutil
import tempfile
from pathlib import Path

import matplotlib
import pytest

SCRATCH = tempfile.TemporaryDirectory(prefix="vae-tests-", ignore_cleanup_errors=True)  # removed when pytest ends
os.environ["VAE_OUTPUT"] = SCRATCH.name  # before anything imports storage; nbval's kernels inherit it

matplotlib.use("Agg")  # not MPLBACKEND: the kernels would inherit that and lose their inline figures

SANITISER = r"""
regex: (?m)^(\u2713 .*: )-?[\d,]+(?:\.\d+)?(?= |$)
replace: \1#
"""


def pytest_configure(config):
    path = Path(SCRATCH.name) / "sanitiser.cfg"
    path.write_text(SANITISER, encoding="ascii")
    if hasattr(config.option, "nbval_sanitize_with"):  # not where nbval is switched off
        config.option.nbval_sanitize_with = str(path)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Give every notebook but the third the shipped weights as a reader's own.

    They are those of the committed outputs: what differs now is code or rounding, and not the luck of another training.
    How far another training may land, `tools/notebooks.py seeds` measures.
    """
    if item.path.suffix == ".ipynb" and not item.path.name.startswith("03"):
        own = Path(SCRATCH.name) / "checkpoints" / "my_vae.pt"
        own.parent.mkdir(exist_ok=True)
        shutil.copyfile(item.config.rootpath / "checkpoints" / "vae.pt", own)
