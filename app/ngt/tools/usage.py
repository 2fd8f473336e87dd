"""The sub-commands that the CLI offers, by its usage text."""

import re

from app.ngt.tools.text import answer_lines

_ARGUMENT = re.compile(r"\[[^\[\]]*+\]|<[^<>]*+>")
_SUB_COMMAND = re.compile(r"(?<![\w=./-])[a-z][a-z0-9]*+(?:_[a-z0-9]++)++(?![=/-]|\.?\w)")
_CLI = "nutanix_guest_tools_cli"


def read_usage(text: str) -> frozenset[str]:
    """The words of the usage text in lower case with an underscore that are not arguments."""
    words = (word for line in answer_lines(text) for word in _SUB_COMMAND.findall(_ARGUMENT.sub(" ", line)))
    return frozenset(words) - {_CLI}
