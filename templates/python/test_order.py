import unittest

from order import order


class Order(unittest.TestCase):
    def test_short_jobs_go_first_and_unknown_ones_last(self):
        places = order([None, 600, 90, 600])
        self.assertEqual([index for index, _ in places], [2, 1, 3, 0])
        self.assertEqual(places[0][1], "takes 2 min")


if __name__ == "__main__":
    unittest.main()
