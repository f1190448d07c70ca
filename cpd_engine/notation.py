"""Recipes as text: YAML whose words and numbers are those of YAML 1.2, as people and JSON mean them.

PyYAML reads YAML 1.1, where `on` and `off`, which are words of a spec, are truth values, and `1e-3` is a text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_BOOLEAN, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    """Plain values alone, as `yaml.safe_load` makes them."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the attribute is PyYAML's, which reads it of the class
        first: [(tag, pattern) for tag, pattern in found if tag != _BOOLEAN]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_FLOAT, re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))


def parse_yaml(text: str | bytes) -> Any:
    """What the text holds. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
