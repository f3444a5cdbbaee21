"""What the plugin exports. componentize-py looks for these names here."""

from compatibility import Compatibility
