"""Ranks the available workers by their free GPU memory.

Plain Python, so that `python3 -m unittest` tests it without WebAssembly.
"""


def rank(workers, available):
    """Returns (index in `workers`, score, reason) of each worker, best first."""
    fit = ((index, free_mib(w)) for index, w in enumerate(workers) if available(w))
    best = sorted(fit, key=lambda pair: pair[1], reverse=True)
    return [(index, float(mib), f"{mib} MiB of GPU memory free") for index, mib in best]


def free_mib(worker):
    """Free memory of the GPU that has most of it. Total memory stands in for a value not measured."""
    free = (g.memory_mib if g.memory_free_mib is None else g.memory_free_mib for g in worker.gpus)
    return max(free, default=0)
