"""Connects `rank` with the host's records."""

from rank import rank
from wit_world import exports
from wit_world.exports.selection import Choice, Exclusion, Ranking
from wit_world.imports.types import WorkerStatus_Available


class Selection(exports.Selection):
    def select(self, context, job, workers):
        def available(worker):
            return isinstance(worker.status, WorkerStatus_Available)

        choices = [Choice(*choice) for choice in rank(workers, available)]
        busy = (index for index, worker in enumerate(workers) if not available(worker))
        return Ranking(choices, [Exclusion(index, "not available") for index in busy])
