"""What the plugin exports. componentize-py looks for these names here."""

from compatibility import Compatibility
from estimate import Estimation
from queueing import Queueing
from selection import Selection
