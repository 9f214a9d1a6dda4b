"""Nothing that a test or a notebook under test writes reaches images/ or a reader's checkpoint."""

import os
import tempfile

import matplotlib

SCRATCH = tempfile.TemporaryDirectory(prefix="vae-tests-", ignore_cleanup_errors=True)  # removed when pytest ends
os.environ["VAE_OUTPUT"] = SCRATCH.name  # before anything imports helpers; nbval's kernels inherit it

matplotlib.use("Agg")  # not MPLBACKEND: the kernels would inherit that and lose their inline figures
