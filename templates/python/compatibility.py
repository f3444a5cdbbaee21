"""Connects `admit` with the host's records."""

from admit import admit
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.compatibility import Reason, Verdict_No, Verdict_Yes


class Compatibility(exports.Compatibility):
    def check(self, context, job, worker):
        settings = {setting.key: setting.value.value for setting in context.settings}
        try:
            obstacle = admit(settings, job.epochs)
        except ValueError as error:
            raise Err(str(error))
        return Verdict_No([Reason("my-policy.epochs", obstacle)]) if obstacle else Verdict_Yes()
