"""`pipeline report`: the page as one file that needs nothing else, neither a server nor a network."""

from importlib.resources import files
from typing import Any

import orjson

#: What would end a script's text or start a comment in it; within JSON each may be written in another way.
_ESCAPES = {
    b"<": b"\\u003c",
    b">": b"\\u003e",
    b"&": b"\\u0026",
    b"\xe2\x80\xa8": b"\\u2028",
    b"\xe2\x80\xa9": b"\\u2029",
}


def page_part(name: str) -> str:
    """A part of the page: `page.html`, `page.css` or `page.js`."""
    return (files("pipeline.ui") / "page" / name).read_text("utf-8")


def plotly() -> str:
    """The plotting library, as it comes with its package."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")


def as_script_data(data: Any) -> str:
    """JSON that may stand in a script element, whatever strings are in it. Source: WHATWG HTML, 4.12.1.3."""
    text = orjson.dumps(data)
    for mark, escape in _ESCAPES.items():
        text = text.replace(mark, escape)
    return text.decode()


def render_page(data: Any) -> str:
    """The whole page with its data inside."""
    parts = {
        "style": f"<style>{page_part('page.css')}</style>",
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


def live_page() -> str:
    """The same page for a server, which has the parts and the data at addresses of their own."""
    text = page_part("page.html")
    for name, part in (
        ("style", '<link rel="stylesheet" href="/page.css">'),
        ("plotly", '<script src="/plotly.js"></script>'),
        ("data", ""),
        ("script", '<script src="/page.js"></script>'),
    ):
        text = text.replace(f"<!-- {name} -->", part)
    return text
