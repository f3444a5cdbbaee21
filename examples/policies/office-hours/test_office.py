import unittest

from office import obstacle

ADAS = {"owner": "ada"}


def at(time, weekday=3, date="2026-01-14"):
    return {"local-date": date, "local-time": time, "local-weekday": weekday}


class Office(unittest.TestCase):
    def test_by_day_it_is_its_owners(self):
        self.assertEqual(obstacle(ADAS, at("09:00"), "bob"), "is reserved for ada from 09:00 to 17:00")
        self.assertIsNotNone(obstacle(ADAS, at("16:59"), None))
        self.assertIsNone(obstacle(ADAS, at("12:00"), "ada"))
        self.assertEqual(obstacle({}, at("12:00"), "ada"), "is reserved from 09:00 to 17:00")

    def test_otherwise_it_is_everybodys(self):
        for now in [at("08:59"), at("17:00"), at("12:00", weekday=6)]:
            self.assertIsNone(obstacle(ADAS, now, "bob"))
        holiday = {**ADAS, "holidays": ["2026-01-14"]}
        self.assertIsNone(obstacle(holiday, at("12:00"), "bob"))
        self.assertIsNotNone(obstacle({**ADAS, "days": [6]}, at("12:00", weekday=6), "bob"))

    def test_what_makes_no_sense_is_named(self):
        for settings in [{"from": "9:00"}, {"to": 17}, {"days": [0]}, {"days": "daily"}, {"holidays": "all"}]:
            with self.assertRaisesRegex(ValueError, next(iter(settings))):
                obstacle(settings, at("12:00"), "bob")
        with self.assertRaisesRegex(ValueError, "local time"):
            obstacle(ADAS, {}, "bob")


if __name__ == "__main__":
    unittest.main()
