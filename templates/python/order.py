"""Lets short jobs go first. Jobs of which nobody knows how long they take come last."""

from math import ceil, inf


def order(takes_s):
    """Returns (index, reason) for each job, the next one first."""
    # Stable: of two jobs that take equally long, the one that came first goes first.
    indices = sorted(range(len(takes_s)), key=lambda index: inf if takes_s[index] is None else takes_s[index])
    return [(index, reason(takes_s[index])) for index in indices]


def reason(seconds):
    return "nobody knows how long it takes" if seconds is None else f"takes {ceil(seconds / 60)} min"
