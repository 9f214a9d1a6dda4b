"""Read as the notebooks do; then print what each attempt to write says, as `nobody` where the word is given."""

import os
import sys

import disasters
from writers import WRITERS

import helpers
import storage

print(helpers.load_fashion_mnist("test")[0].shape, flush=True)
os.environ["FASHION_MNIST_DIR"] += "/FashionMNIST/raw"  # not in torchvision's layout: it would be copied
for write in (storage.fetch_fashion_mnist, *WRITERS.values()):
    disasters.in_a_fork(write, disasters.become_nobody if "nobody" in sys.argv else lambda: None)
