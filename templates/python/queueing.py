"""Connects `order` with the host's records."""

from order import order
from wit_world import exports
from wit_world.exports.queueing import Place


class Queueing(exports.Queueing):
    def order(self, context, worker, running, waiting):
        return [Place(index, reason) for index, reason in order([job.takes_s for job in waiting])]
