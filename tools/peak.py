"""Execute one notebook and print the peak memory of its kernel in bytes: for tools/benchmark.py.

In a small process of its own: on Linux a kernel's peak counts from what its parent held, and the benchmark holds torch.
"""

import sys

import nbclient
import nbformat

PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"

notebook = nbformat.read(sys.argv[1], 4)
notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
place = {"metadata": {"path": "notebooks"}}
nbclient.NotebookClient(notebook, timeout=1200, resources=place, extra_arguments=["--log-level=40"]).execute()
print(int(notebook.cells[-1].outputs[0].text) * (1 if sys.platform == "darwin" else 1024))
