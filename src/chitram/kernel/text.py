"""Text that people gave."""

from __future__ import annotations

import unicodedata

# Characters that turn the direction of text and can make `gpj.exe` look like `exe.jpg`, the byte
# order mark, and annotation marks. The joiners U+200C and U+200D stay: Indic names and emoji need them.
_FORMAT_CONTROLS = frozenset(
    map(chr, [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF])
) | frozenset(map(chr, range(0xFFF9, 0xFFFC)))
# Controls, lone surrogates, line and paragraph separators.
_UNWANTED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def is_harmless(character: str) -> bool:
    """Whether a character only shows itself, and controls nothing."""
    return character not in _FORMAT_CONTROLS and unicodedata.category(character) not in _UNWANTED
