"""Refuses jobs that train longer than the setting `max-epochs` allows."""


def admit(settings, epochs):
    """Returns why the job is refused, or None. Raises ValueError for an invalid setting."""
    limit = settings.get("max-epochs")
    if limit is None or epochs is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise ValueError("settings: `max-epochs` must be a whole number")
    return f"trains at most {limit} epochs, not {epochs}" if epochs > limit else None
