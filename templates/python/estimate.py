"""Connects `minutes` with the host's records."""

from minutes import minutes
from wit_world import exports
from wit_world.exports.estimation import Duration


class Estimation(exports.Estimation):
    def estimate(self, context, job, worker):
        if job.epochs is None:
            return None
        likely = minutes(job.epochs)
        return Duration(likely, low=likely / 2, high=likely * 2, confidence=0.5)
