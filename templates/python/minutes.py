"""Estimates half a minute for each epoch."""

MINUTES_PER_EPOCH = 0.5


def minutes(epochs):
    return epochs * MINUTES_PER_EPOCH
