#!/usr/bin/env python3
"""Prints the version of the installed sleap-nn, and each of its settings with its kind.

usage: settings.py      (with the Python of the installed sleap-nn)
"""

import typing
from importlib.metadata import version

import attrs
from sleap_nn.config.training_job_config import TrainingJobConfig

KINDS = {int: "int", float: "float", bool: "bool", str: "text", typing.Any: "any", list: "list", dict: "map"}
LISTS = {int: "ints", float: "floats", str: "texts"}


def kind_of(annotation):
    """The kind of a setting, and its class if it is a section."""
    inner = [part for part in typing.get_args(annotation) if part is not type(None)]
    if typing.get_origin(annotation) is typing.Union:
        kind, section = kind_of(inner[0])
        return kind if kind == "any" else kind + "?", section
    if typing.get_origin(annotation) is list:
        return LISTS.get(inner[0], "list"), None
    if attrs.has(annotation):
        return "section", annotation
    return KINDS.get(annotation, "any"), None


def show(section, path=""):
    hints = typing.get_type_hints(section)
    for field in attrs.fields(section):
        kind, inner = kind_of(hints[field.name])
        print(path + field.name, kind)
        if inner:
            show(inner, f"{path}{field.name}.")


print(version("sleap-nn"))
show(TrainingJobConfig)
