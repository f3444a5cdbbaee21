"""Until a paper's deadline, the jobs of its authors start first.

Plain Python, so that `python3 -m unittest` tests it without WebAssembly. A plugin has no clock:
the host passes the local date with every call.
"""

import re


def order(settings, now, users):
    """Returns (index, reason) for each job, the next one first, or None for no opinion.

    `users` has the user of each job, in the order in which the jobs came. Raises ValueError for an
    invalid setting.
    """
    authors, date = settings.get("users"), settings.get("date")
    if not (isinstance(authors, list) and authors and all(isinstance(name, str) for name in authors)):
        raise ValueError('settings: `users` must be a list of names such as ["ada"]')
    if not (isinstance(date, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", date)):
        raise ValueError("settings: `date` must be a date such as 2026-02-01")
    if "local-date" not in now:
        raise ValueError("this host does not pass the local date")
    # Dates compare as texts do.
    if now["local-date"] > date or not any(user in authors for user in users):
        return None
    first = [(index, f"their paper is due on {date}") for index, user in enumerate(users) if user in authors]
    others = [
        (index, f"after those whose paper is due on {date}")
        for index, user in enumerate(users)
        if user not in authors
    ]
    return first + others
