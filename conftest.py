"""What is under test writes outside the repository, and nbval takes one claim of a notebook for another.

`✓` says that a measured number lies within its margin, so the digits behind it may differ between machines. Nothing
else may: `✗`, a changed name or unit and every other output are compared as they are.

Not in tests/, where pytest would not look for it when a notebook is tested alone, which then overwrote images/.
"""

import os
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


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, with which `make test` runs two files at a time
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        """A file runs in one process, and so do all notebooks: the later ones load what notebook 3 has trained."""

        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return "notebooks" if file.endswith(".ipynb") else file

    return ByFile(config, log)
