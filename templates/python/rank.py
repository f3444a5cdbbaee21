"""Which worker should get a job: the available one with the most free GPU memory.

Plain Python, so that `python3 -m unittest` tests it without WebAssembly.
"""


def rank(workers, available):
    """(place in `workers`, score, reason), best first."""
    fit = ((place, free_mib(w)) for place, w in enumerate(workers) if available(w))
    best = sorted(fit, key=lambda pair: pair[1], reverse=True)
    return [(place, float(mib), f"{mib} MiB of GPU memory free") for place, mib in best]


def free_mib(worker):
    """Free memory of the GPU that has most; where it was not measured, its total."""
    free = (g.memory_mib if g.memory_free_mib is None else g.memory_free_mib for g in worker.gpus)
    return max(free, default=0)
