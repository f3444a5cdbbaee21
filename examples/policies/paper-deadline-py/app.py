"""What the plugin exports. componentize-py looks for these names here."""

from queueing import Queueing
