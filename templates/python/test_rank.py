import unittest
from types import SimpleNamespace

from rank import rank


def worker(memory_mib, memory_free_mib=None, available=True):
    gpu = SimpleNamespace(memory_mib=memory_mib, memory_free_mib=memory_free_mib)
    return SimpleNamespace(gpus=[gpu], available=available)


class Rank(unittest.TestCase):
    def test_the_most_free_memory_comes_first_and_busy_workers_are_left_out(self):
        workers = [worker(24000, 1000), worker(80000, available=False), worker(8000)]
        ranked = rank(workers, lambda worker: worker.available)
        self.assertEqual([index for index, _, _ in ranked], [2, 0])
        self.assertEqual(ranked[0][2], "8000 MiB of GPU memory free")

    def test_an_empty_room_has_an_empty_ranking(self):
        self.assertEqual(rank([], lambda worker: True), [])


if __name__ == "__main__":
    unittest.main()
