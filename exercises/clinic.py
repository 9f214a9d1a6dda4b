"""The checkers of the failure clinic: which patient it is, a KL below zero, and a measurement of the reader's own."""

import math

import numpy as np
import torch

import helpers
from exercises import Other, Wrong, call, compare, shaped, task

FINDS = (2, 14, 7, 1, 10, 8, 4, 13)  # the patients to whom the finds A to H belong


@task("9.1", "eight numbers, the patients to whom the finds A to H belong, in this order")
def quiz(patients):
    right = shaped(patients, (8,)) == torch.tensor(FINDS).double()
    if not right.all():
        wrong = ", ".join(letter for letter, good in zip("ABCDEFGH", right) if not good)
        raise Wrong(f"{int(right.sum())} of 8 are right; look again at {wrong}")
    return "Eight finds, eight lines of code: you can run this clinic."


@task("9.2", "one number, the smallest value that the wrong formula takes for one dimension, in nats")
def below_zero(smallest):
    truth = (0.5 - 1 + math.log(2) / 2) / 2
    mistakes = {
        "that is the logvar at which it is smallest; what is the value there?": -math.log(2),
        "the factor ½ in front is missing": 2 * truth,
        "the right formula is never below 0, but this is not the right formula": 0.0,
    }
    compare(smallest, truth, 0.01, mistakes)
    return "A KL below zero is no KL. Compute it over a range of logvar: a trained model may never show this mistake."


@task("9.3", "a function of a model that returns True where its decoder uses z, and False where it does not")
def listens(hears):
    class Deaf(helpers.VAE):
        def decode(self, z):
            return self.decoder(0 * z)

    class Whispering(helpers.VAE):
        def decode(self, z):
            return self.decoder(1e-7 * z)

    kinds = (helpers.VAE, Deaf, Whispering)
    answers = [call(hears, kind(2)) for kind in kinds]
    try:
        answers += [call(hears, kind(5)) for kind in kinds]
    except Wrong:
        raise Wrong("it works with two latent dimensions only; model.config['latent_dim'] tells their number") from None
    if not all(
        isinstance(answer, bool | np.bool_) or getattr(answer, "dtype", None) == torch.bool for answer in answers
    ):
        raise Other(f"received a {type(answers[0]).__name__}")
    sound, deaf, whispering = (list(map(bool, answers[i::3])) for i in range(3))
    if deaf == [True, True] and sound == [True, True]:
        raise Wrong("it says True of a decoder that multiplies z by 0: compare the answers to two different codes")
    if sound == [False, False] and deaf == [True, True]:
        raise Wrong("True and False are swapped")
    if sound != [True, True] or deaf != [False, False]:
        raise Wrong("it is wrong for a sound model or for a deaf one: compare the answers to two different codes")
    if whispering != [True, True]:
        raise Wrong("it takes a decoder that hardly hears z for a deaf one: ask whether anything changes at all")
    return "Two codes, two answers: if they are equal, z is not used."
