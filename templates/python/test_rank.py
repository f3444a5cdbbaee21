import unittest
from types import SimpleNamespace

from rank import rank


def worker(memory_mib, memory_free_mib=None, available=True):
    gpu = SimpleNamespace(memory_mib=memory_mib, memory_free_mib=memory_free_mib)
    return SimpleNamespace(gpus=[gpu], available=available)


class Rank(unittest.TestCase):
    def test_the_most_free_memory_comes_first_and_the_busy_are_out(self):
        workers = [worker(24000, 1000), worker(80000, available=False), worker(8000)]
        ranked = rank(workers, lambda worker: worker.available)
        self.assertEqual([place for place, _, _ in ranked], [2, 0])
        self.assertEqual(ranked[0][2], "8000 MiB of GPU memory free")

    def test_nobody_is_ranked_in_an_empty_room(self):
        self.assertEqual(rank([], lambda worker: True), [])


if __name__ == "__main__":
    unittest.main()
