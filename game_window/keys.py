"""The keys that can be pressed, by name: their codes on Windows and on X11. Pure."""

import string
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """One key."""

    virtual_key: int  #: Windows' VK_* code
    keysym: int  #: X11's XK_* code
    is_extended: bool = False  #: whether its scan code needs the prefix E0, as that of an arrow does


#: Sources: Microsoft, "Virtual-Key Codes"; X.Org, keysymdef.h.
KEYS: dict[str, Key] = {
    "left": Key(0x25, 0xFF51, is_extended=True),
    "up": Key(0x26, 0xFF52, is_extended=True),
    "right": Key(0x27, 0xFF53, is_extended=True),
    "down": Key(0x28, 0xFF54, is_extended=True),
    "space": Key(0x20, 0x0020),
    "enter": Key(0x0D, 0xFF0D),
    "escape": Key(0x1B, 0xFF1B),
    "tab": Key(0x09, 0xFF09),
    "backspace": Key(0x08, 0xFF08),
    "shift": Key(0xA0, 0xFFE1),
    "control": Key(0xA2, 0xFFE3),
    "alt": Key(0xA4, 0xFFE9),
    **{letter: Key(ord(letter.upper()), ord(letter)) for letter in string.ascii_lowercase},
    **{digit: Key(ord(digit), ord(digit)) for digit in string.digits},
    **{f"f{number}": Key(0x6F + number, 0xFFBD + number) for number in range(1, 13)},
}


def key_named(name: str) -> Key:
    """The key of that name. Raises KeyError with the names that exist."""
    try:
        return KEYS[name]
    except KeyError:
        raise KeyError(f"no key is named {name!r}; names are {', '.join(KEYS)}") from None
