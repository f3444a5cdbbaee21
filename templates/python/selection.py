"""Between the host's records and `rank`."""

from rank import rank
from wit_world import exports
from wit_world.exports.selection import Choice, Exclusion, Ranking
from wit_world.imports.types import WorkerStatus_Available


class Selection(exports.Selection):
    def select(self, context, job, workers):
        def available(worker):
            return isinstance(worker.status, WorkerStatus_Available)

        choices = [Choice(*choice) for choice in rank(workers, available)]
        busy = (place for place, worker in enumerate(workers) if not available(worker))
        return Ranking(choices, [Exclusion(place, "not available") for place in busy])
