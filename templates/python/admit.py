"""Whether a worker takes a job: not when it trains longer than the setting `max-epochs` allows."""


def admit(settings, epochs):
    """None, or why not. ValueError when a setting makes no sense."""
    limit = settings.get("max-epochs")
    if limit is None or epochs is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise ValueError("settings: `max-epochs` must be a whole number")
    return f"trains at most {limit} epochs, not {epochs}" if epochs > limit else None
