"""fetch.py STEP ...: die at each step of fetching, print what is there, fetch again; then fetch with no room for it.

Each of the four files is unpacked, in steps 1 to 4, and then gets its place, in steps 5 to 8.
"""

import os
import shutil
import sys
from pathlib import Path

import disasters

import storage


def dying_at(step):
    """Let the process die in step `step`, after a part of it: of a file, the first 4,000 bytes."""
    left = iter(range(step - 1, -1, -1))
    write, replace = Path.write_bytes, os.replace

    def write_or_die(path, content):
        if next(left) == 0:
            write(path, content[:4000])
            disasters.die()
        return write(path, content)

    def replace_or_die(old, new):
        return disasters.die() if next(left) == 0 else replace(old, new)

    Path.write_bytes, os.replace = write_or_die, replace_or_die


for step in map(int, sys.argv[1:]):
    end = disasters.in_a_fork(storage.fetch_fashion_mnist, lambda step=step: dying_at(step))
    there = sorted(path.name for path in storage.raw(storage.DATA).iterdir())
    left = len(list(storage.DATA.glob("fetch-*")))  # its scratch folder, beside the data and on the same disk
    again = storage.fetch_fashion_mnist() == storage.DATA  # which checks every file
    print(end, left, again, *there, flush=True)
    shutil.rmtree(storage.DATA)

disasters.in_a_fork(storage.fetch_fashion_mnist, disasters.limit_files)
print([path.name for path in storage.DATA.rglob("*")])
