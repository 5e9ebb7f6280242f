"""HTML and SVG elements whose text and attributes are always escaped, and JSON that no text in it can break out of.

>>> tag("p", "a < b", tag("b", 3), class_="x")
'<p class="x">a &lt; b<b>3</b></p>'
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

_EMPTY = {"br", "circle", "img", "line", "polyline", "rect"}  # elements without content
_IN_JSON = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


class Markup(str):
    """Text that is markup already."""


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """`class_` stands for `class` and `data_x` for `data-x`; None and False leave an attribute out, True is bare."""
    opened = name
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            opened += f" {key}" if value is True else f' {key}="{escape(str(value))}"'
    if name in _EMPTY:
        return Markup(f"<{opened}/>")
    return Markup(f"<{opened}>{join(children)}</{name}>")


def join(children: Iterable[Any]) -> Markup:
    return Markup("".join(map(_child, children)))


def _child(child: Any) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, (list, tuple)):
        return join(child)
    return escape(str(child), quote=False)


def table(caption: Any, header: Iterable[Any], rows: Iterable[Iterable[Any]], *, class_: str | None = None) -> Markup:
    """The first cell of a row is its heading. A child may be a ready-made th or td."""
    return tag(
        "table",
        tag("caption", caption) if caption else None,
        tag("thead", tag("tr", [_cell("th", cell, scope="col") for cell in header])),
        tag("tbody", [tag("tr", [_row_cell(place, cell) for place, cell in enumerate(row)]) for row in rows]),
        class_=class_,
    )


def _row_cell(place: int, cell: Any) -> Markup:
    return _cell("td", cell) if place else _cell("th", cell, scope="row")


def _cell(kind: str, cell: Any, **attributes: Any) -> Markup:
    ready = isinstance(cell, Markup) and cell.startswith(("<th", "<td"))
    return cell if ready else tag(kind, cell, **attributes)


def scroller(content: Any, label: str) -> Markup:
    """What is wider than a phone scrolls by itself, also by keyboard."""
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=label)


def embedded_json(id: str, value: Any) -> Markup:
    """A script element for `JSON.parse`: no `</script>` or `<!--` in a text can end or change it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_IN_JSON)
    return Markup(f'<script type="application/json" id="{escape(id)}">{text}</script>')
