"""Read and write as the notebooks do, and print what a notebook prints of it."""

from writers import WRITERS

import helpers

print(helpers.load_fashion_mnist("test")[0].shape)
for write in WRITERS.values():
    write()
print(helpers.load_vae(helpers.OWN_WEIGHTS).config["hidden"])
helpers.claim("a", 1, "nats")
