"""Connects `obstacle` with the host's records."""

import json

from componentize_py_types import Err
from office import obstacle
from wit_world import exports
from wit_world.exports.compatibility import Reason, Verdict_No, Verdict_Yes
from wit_world.imports.types import Value_Json


def plain(properties):
    """Settings and properties as a dictionary."""
    values = ((each.key, each.value) for each in properties)
    return {
        key: json.loads(value.value) if isinstance(value, Value_Json) else value.value
        for key, value in values
    }


class Compatibility(exports.Compatibility):
    def check(self, context, job, worker):
        try:
            why = obstacle(plain(context.settings), plain(context.properties), job.user)
        except ValueError as error:
            raise Err(str(error))
        return Verdict_No([Reason("office-hours.closed", why)]) if why else Verdict_Yes()
