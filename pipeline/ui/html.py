"""The HTML page: as one self-contained file for `pipeline report`, and for the web server."""

import os
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

#: Could end a script element or start a comment in it; JSON allows these escapes instead.
_ESCAPES = {
    b"<": b"\\u003c",
    b">": b"\\u003e",
    b"&": b"\\u0026",
    b"\xe2\x80\xa8": b"\\u2028",
    b"\xe2\x80\xa9": b"\\u2029",
}


def page_part(name: str) -> str:
    """The text of one part of the page: the file of that name in `page`."""
    return (files("pipeline.ui") / "page" / name).read_text("utf-8")


def plotly() -> str:
    """The plotting library from its package."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")


def as_script_data(data: Any) -> str:
    """JSON that is safe in a script element, whatever strings it has. Source: WHATWG HTML, 4.12.1.3."""
    text = orjson.dumps(data)
    for mark, escape in _ESCAPES.items():
        text = text.replace(mark, escape)
    return text.decode()


def relative_url(folder: Path, page: Path) -> str | None:
    """The URL of a folder in a page that is opened as a file; None if no relative one exists, as between two drives."""
    try:
        path = os.path.relpath(folder, Path(os.path.abspath(page)).parent)
    except ValueError:
        return None
    return quote(path.replace(os.sep, "/"))


def render_page(data: Any) -> str:
    """The whole page, with styles, scripts and data inside."""
    parts = {
        "style": f"<style>{page_part('page.css')}</style>",
        "control": "",
        "plotly": f"<script>{plotly()}</script>",
        "data": f'<script type="application/json" id="data">{as_script_data(data)}</script>',
        "script": f"<script>{page_part('page.js')}</script>",
    }
    text = page_part("page.html")
    for name, part in parts.items():
        before, mark, after = text.partition(f"<!-- {name} -->")
        assert mark, name
        text = before + part + after
    return text


def live_page(*, has_control: bool = False) -> str:
    """The same page for the web server, which serves parts and data at their own addresses.

    Args:
        has_control: with the controls, for who has a token of the interface.
    """
    style, script = '<link rel="stylesheet" href="/{}.css">', '<script src="/{}.js"></script>'
    own = ("page", *(["control"] if has_control else []))
    text = page_part("page.html")
    for name, part in (
        ("style", "".join(map(style.format, own))),
        ("control", page_part("control.html") if has_control else ""),
        ("plotly", script.format("plotly")),
        ("data", ""),
        ("script", "".join(map(script.format, own))),
    ):
        text = text.replace(f"<!-- {name} -->", part)
    return text
