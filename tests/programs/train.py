"""Train until somebody interrupts; print each epoch, and at the end how many there are and if the model is sound."""

import signal

import torch

import helpers

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started pytest may have switched it off
x, model = torch.rand(1000, 784), helpers.VAE(hidden=(8,))
history = helpers.fit(model, x, x, epochs=100_000, on_epoch=lambda epoch, _: print(epoch, flush=True))
print(len(history["recon"]), torch.isfinite(model(x)[0]).all().item())
