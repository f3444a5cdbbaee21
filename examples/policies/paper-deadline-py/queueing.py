"""Connects `order` with the host's records."""

import json

from componentize_py_types import Err
from deadline import order
from wit_world import exports
from wit_world.exports.queueing import Place
from wit_world.imports.types import Value_Json


def plain(properties):
    """Settings and properties as a dictionary."""
    values = ((each.key, each.value) for each in properties)
    return {
        key: json.loads(value.value) if isinstance(value, Value_Json) else value.value
        for key, value in values
    }


class Queueing(exports.Queueing):
    def order(self, context, worker, running, waiting):
        try:
            places = order(plain(context.settings), plain(context.properties), [job.user for job in waiting])
        except ValueError as error:
            raise Err(str(error))
        return None if places is None else [Place(index, reason) for index, reason in places]
