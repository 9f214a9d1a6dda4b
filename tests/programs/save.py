"""save.py DISASTER ...: meet each save with each disaster; print how it ended, and what it left behind."""

import sys

import disasters
from writers import WRITERS

import storage

for disaster in sys.argv[1:]:
    for name, write in WRITERS.items():
        write()
        path = storage.OUTPUT / name
        before, folders = path.read_bytes(), len(list(path.parent.glob("save-*")))
        end = disasters.in_a_fork(write, getattr(disasters, disaster))
        left = len(list(path.parent.glob("save-*"))) - folders
        print(name, end, path.read_bytes() == before, left, flush=True)
