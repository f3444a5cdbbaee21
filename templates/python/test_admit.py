import unittest

from admit import admit


class Admit(unittest.TestCase):
    def test_only_a_job_above_the_limit_is_refused(self):
        self.assertIsNone(admit({}, 500))
        self.assertIsNone(admit({"max-epochs": 5}, 5))
        self.assertEqual(admit({"max-epochs": 5}, 6), "trains at most 5 epochs, not 6")

    def test_an_invalid_setting_is_named(self):
        with self.assertRaisesRegex(ValueError, "max-epochs"):
            admit({"max-epochs": "many"}, 6)


if __name__ == "__main__":
    unittest.main()
