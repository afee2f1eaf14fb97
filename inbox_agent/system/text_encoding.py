"""The text of a file that another program wrote: PowerShell and .NET write byte order marks, and UTF-16.

Not here: records of a share, which are UTF-8 without a mark (`inbox_agent.protocol`).
"""

import json

ENCODINGS = "UTF-8, UTF-16 or UTF-32"  #: for messages


def decode_text(data: bytes) -> str:
    """The text in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Without a mark it is recognised as JSON is, by zero bytes in its first two characters.

    Raises:
        UnicodeDecodeError: it is none of them.
    """
    return data.decode(json.detect_encoding(data))
