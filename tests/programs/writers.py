"""Everything that writes a file which a reader could lose."""

import matplotlib.pyplot as plt
import torch

import figures
import helpers
from explorer import latent_explorer

VAE = helpers.load_vae(helpers.REFERENCE)
EXPLORER = latent_explorer(VAE, torch.zeros(9, 2), torch.arange(9))
WRITERS = {
    "checkpoints/my_vae.pt": lambda: helpers.save_checkpoint(VAE),
    "images/plot.png": lambda: figures.save_figure(plt.figure(), "plot.png"),
    "images/latent_explorer.html": lambda: EXPLORER.save(),
}
