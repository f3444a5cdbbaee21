import unittest

from minutes import minutes


class Minutes(unittest.TestCase):
    def test_it_grows_with_the_epochs(self):
        self.assertEqual([minutes(epochs) for epochs in (0, 1, 200)], [0.0, 0.5, 100.0])


if __name__ == "__main__":
    unittest.main()
