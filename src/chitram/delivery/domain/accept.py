"""What an Accept header names (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import re

# Far above what browsers send; a longer header is taken to name nothing.
_MAX_CHARACTERS = 4096
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_LIST = re.compile(rf'(?:[^"]|{_QUOTED})*+', re.DOTALL)
_ELEMENT = re.compile(rf'(?:[^",]|{_QUOTED})++', re.DOTALL)
_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


def names_media_type(accept: str | None, media_type: str) -> bool:
    """Whether a client says by name that it takes `media_type`.

    Wildcards name nothing: what sends them need not know the type. Nor does a weight of 0, or any
    other parameter, which would make the type a narrower one.

    Args:
        accept: of the request, lines joined by commas; None without any.
        media_type: in lower case, without parameters.
    """
    if accept is None or len(accept) > _MAX_CHARACTERS or not _LIST.fullmatch(accept):
        return False
    return any(_names(element, media_type) for element in _ELEMENT.findall(accept))


def _names(element: str, media_type: str) -> bool:
    named, *parameters = (part.strip(" \t") for part in element.split(";"))
    if named.lower() != media_type:
        return False
    # A semicolon with nothing behind it is allowed (section 5.6.6).
    weights = [parameter for parameter in parameters if parameter]
    return not weights or (len(weights) == 1 and _is_positive(weights[0]))


def _is_positive(parameter: str) -> bool:
    name, _, weight = parameter.partition("=")
    return name.lower() == "q" and _WEIGHT.fullmatch(weight) is not None and float(weight) > 0
