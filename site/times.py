"""Measure how long the notebooks and their slow cells run, for the page for teachers: .venv/bin/python site/times.py

It runs in the environment of the notebooks, on a quiet machine, and writes site/times.json and nothing else.
"""

import json
import os
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
SLOW = 5  # seconds for which a class notices that it waits

sys.path.insert(0, str(ROOT))
from tools.notebooks import OwnKernel, processor, series  # noqa: E402


def measure(path: Path) -> tuple[float, dict[str, float]]:
    """Return the seconds that a notebook takes, start of the kernel included, and those of each slow cell."""
    seconds, begun = {}, {}
    client = NotebookClient(
        nbformat.read(path, as_version=4),
        timeout=1200,
        kernel_name="python3",
        kernel_manager_class=OwnKernel,
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_execute=lambda cell, cell_index: begun.update({cell.id: time.perf_counter()}),
        on_cell_executed=lambda cell, **_: seconds.update({cell.id: time.perf_counter() - begun[cell.id]}),
    )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as output:
        client.execute(env={**os.environ, "VAE_OUTPUT": output})
    return round(time.perf_counter() - start, 1), {cell: round(s, 1) for cell, s in seconds.items() if s >= SLOW}


def main() -> None:
    found = {"date": f"{date.today()}", "processor": processor(), "seconds": {}, "slow": {}}
    for path in series():
        found["seconds"][path.stem], found["slow"][path.stem] = measure(path)
        print(f"{path.name}: {found['seconds'][path.stem]} s", flush=True)
    (ROOT / "site" / "times.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
