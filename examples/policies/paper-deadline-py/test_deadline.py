import unittest

from deadline import order

SETTINGS = {"users": ["ada", "ben"], "date": "2026-02-01"}


def indices(today, users):
    places = order(SETTINGS, {"local-date": today}, users)
    return places and [index for index, _ in places]


class Deadline(unittest.TestCase):
    def test_until_the_deadline_its_authors_come_first(self):
        users = ["cleo", "ben", "dan", "ada", "ben"]
        self.assertEqual(indices("2026-02-01", users), [1, 3, 4, 0, 2])
        self.assertIsNone(indices("2026-02-02", users))
        self.assertIsNone(indices("2026-01-15", ["cleo", "dan"]))
        self.assertIsNone(indices("2026-01-15", []))

    def test_an_invalid_setting_is_named(self):
        for wrong in [{"users": "ada"}, {"users": []}, {"users": [1]}, {"date": "tomorrow"}, {"date": 1}]:
            with self.assertRaisesRegex(ValueError, next(iter(wrong))):
                order({**SETTINGS, **wrong}, {"local-date": "2026-01-15"}, ["ada"])


if __name__ == "__main__":
    unittest.main()
