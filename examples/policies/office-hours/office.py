"""Whether a lab machine takes a job: during office hours only from its owner.

Plain Python, so that `python3 -m unittest` tests it without WebAssembly. A plugin has no clock:
the host passes the local time with every call.
"""

import re

WORKDAYS = [1, 2, 3, 4, 5]


def obstacle(settings, now, user):
    """Returns why the machine refuses, or None. Raises ValueError for an invalid setting."""
    owner = settings.get("owner")
    begin, end = hour(settings, "from", "09:00"), hour(settings, "to", "17:00")
    days, holidays = numbers(settings, "days", WORKDAYS), settings.get("holidays", [])
    if not isinstance(holidays, list):
        raise ValueError('settings: `holidays` must be a list of dates such as "2026-12-24"')
    if "local-time" not in now:
        raise ValueError("this host does not pass the local time")
    # Texts of 24 hours compare as times do.
    at_work = now["local-weekday"] in days and now["local-date"] not in holidays
    if not (at_work and begin <= now["local-time"] < end):
        return None
    if owner is None:
        return f"is reserved from {begin} to {end}"
    return None if user == owner else f"is reserved for {owner} from {begin} to {end}"


def hour(settings, key, default):
    value = settings.get(key, default)
    if not (isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d|24:00", value)):
        raise ValueError(f'settings: `{key}` must be a time such as "{default}"')
    return value


def numbers(settings, key, default):
    value = settings.get(key, default)
    if not (isinstance(value, list) and all(day in range(1, 8) for day in value)):
        raise ValueError(f"settings: `{key}` must be a list of numbers from 1 (Monday) to 7")
    return value
