"""Colours, sizes and type of all pictures, and how one becomes a file or a part of a page.

A picture is an Altair chart without a style: `save` lays it over, black on white, and `specification` for a page, whose own
colour of text it takes. Nothing global is touched.
"""

from __future__ import annotations

import json
import math
import re
import struct
import textwrap
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_retrieval.errors import choice
from hybrid_retrieval.files import replaced

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

FORMATS = ("png", "svg", "pdf")
SCALE = 1.5
"""Pixels of a PNG for one of the picture."""
PPI = 108
INK, PAGE = "#1b1b1b", "currentColor"
MARGIN = 5
"""Pixels around a picture in print, beside those that it has on a page."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
"""Okabe and Ito's, safe for the colour-blind, but for black and yellow, which do not show in both modes; and a grey."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES = ([1, 0], [6, 3], [2, 2], [9, 3, 2, 3], [12, 4])
"""Shapes and dashes stand beside colours, in numbers that share no factor with theirs, so that few series look alike."""
CHANNELS = ("color", "shape", "strokeDash", "xOffset")
WIDTH, HEIGHT = 380, 240
"""Pixels of a panel of curves."""
POINTS = 600
"""Of a curve, at most: more than a panel has pixels."""
FEW = 10
"""Values of a curve that are marked each: of one alone there is no line."""
CHARACTER = 7.2
"""Pixels of one in a title, about."""
UNDER = 0.85
"""And as a part of these, of one in what stands below it."""


BOX = re.compile(r'width="([\d.]+)" height="([\d.]+)" viewBox="0 0 \1 \2"><rect width="\1" height="\2" fill="white"/>')
PART = re.compile(r'((?:(?<=id=")|(?<=url\(#))(?:gradient_|clip)\d+)')


def style(ink: str) -> dict[str, Any]:
    """A Vega-Lite config with the colour of all that has none of its own: of a page, `PAGE`'s ``currentColor``."""
    texts = {"labelColor": ink, "titleColor": ink, "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"}
    title = {"anchor": "start", "fontSize": 13, "subtitleFontSize": 11.5, "offset": 8}
    return {
        "font": "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif",
        "view": {"stroke": None},
        "axis": {
            **texts,
            "gridColor": ink,
            "gridOpacity": 0.15,
            "ticks": False,
            "labelPadding": 5,
            "domain": False,
            "labelLimit": 320,
        },
        "legend": {
            **texts,
            "labelLimit": 0,
            "titleLimit": 0,
            "symbolLimit": 200,
            "symbolStrokeWidth": 2,
            "symbolOpacity": 1,
        },
        "title": {"color": ink, "subtitleColor": ink, **title},
        "concat": {"spacing": 32},
        "style": {
            "guide": {"color": ink, "strokeDash": [4, 3], "opacity": 0.7},
            "frame": {"color": ink, "strokeWidth": 1.2},
            "missing": {"color": "#808080", "opacity": 0.15},
            "named": {"color": ink, "fontSize": 10},
            "other": {"color": ink, "strokeWidth": 1.5},
        },
    }


def specification(chart: Any) -> dict[str, Any]:
    """A picture with its style, for a page that is light or dark."""
    drawn: dict[str, Any] = chart.to_dict()
    return drawn | {"config": style(PAGE)}


def svg(drawn: Mapping[str, Any]) -> str:
    """A specification as SVG, the names of gradients and clips numbered from 0, whatever was drawn before."""
    return _vector(json.dumps(drawn))


@lru_cache(maxsize=64)
def _vector(drawn: str) -> str:
    """Of a specification as JSON; a picture is a file and a part of a page."""
    import vl_convert

    vector = vl_convert.vegalite_to_svg(drawn)
    names = {name: f"part{number}" for number, name in enumerate(dict.fromkeys(PART.findall(vector)))}
    return PART.sub(lambda found: names[found[1]], vector)


def _for_print(vector: str) -> str:
    """An SVG of a page, black on white and with a margin."""

    def wider(found: re.Match[str]) -> str:
        width, height = (float(number) + 2 * MARGIN for number in found.groups())
        box = f'width="{width:g}" height="{height:g}"'
        start = f'x="-{MARGIN}" y="-{MARGIN}"'
        return f'{box} viewBox="-{MARGIN} -{MARGIN} {width:g} {height:g}"><rect {start} {box} fill="white"/>'

    printed, found = BOX.subn(wider, vector, count=1)
    assert found, vector[:300]
    return printed.replace(PAGE, INK)


def save(picture: Any, path: Path) -> Path:
    """Write a chart, or its specification, as the name of the file ends: PNG, SVG or PDF, black on white.

    Raises:
        InputError: it ends otherwise.
    """
    import vl_convert

    form = path.suffix.removeprefix(".")
    choice("format of a picture", form, FORMATS)
    vector = _for_print(svg(picture if isinstance(picture, dict) else specification(picture)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as part:
        if form == "svg":
            part.write_text(vector, encoding="utf-8")
        elif form == "pdf":
            part.write_bytes(vl_convert.svg_to_pdf(vector))
        else:
            part.write_bytes(_packed(vl_convert.svg_to_png(vector, scale=SCALE, ppi=PPI / SCALE)))
    return path


def _packed(png: bytes) -> bytes:
    """The same pixels in a third to a sixth of the bytes: vl-convert packs them for speed."""
    packed, pixels, rest = png[:8], b"", png[8:]
    while rest:
        length, kind = struct.unpack(">I4s", rest[:8])
        held, rest = rest[8 : 8 + length], rest[12 + length :]
        if kind == b"IDAT":
            pixels += held
            continue
        if kind == b"IEND":
            packed += _chunk(b"IDAT", zlib.compress(zlib.decompress(pixels)))
        packed += _chunk(kind, held)
    return packed


def _chunk(kind: bytes, held: bytes) -> bytes:
    return struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))


def data(rows: Iterable[Mapping[str, Any]]) -> alt.InlineData:
    """Rows of a chart; what is not finite is null."""
    import altair as alt

    return alt.InlineData(tuple({key: plain(value) for key, value in row.items()} for row in rows))  # Altair copies lists


def plain(value: Any) -> Any:
    """A value, or values, as JSON has them; what is not finite is null."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def by_colour(field: str, names: Sequence[str], width: float = WIDTH) -> alt.Color:
    """Names, in their order, as colours, with a legend below a panel of that width."""
    import altair as alt

    return alt.Color(f"{field}:N", scale=_scale(names, COLOURS), sort=list(names), legend=_legend(names, width))


def by_shape(field: str, names: Sequence[str], width: float = WIDTH) -> alt.Shape:
    """Names, in their order, as shapes beside their colours."""
    import altair as alt

    return alt.Shape(f"{field}:N", scale=_scale(names, SHAPES), sort=list(names), legend=_legend(names, width))


def by_dash(field: str, names: Sequence[str], width: float = WIDTH) -> alt.StrokeDash:
    """Names, in their order, as dashes beside their colours."""
    import altair as alt

    return alt.StrokeDash(
        f"{field}:N", scale=_scale(names, DASHES), sort=list(names), legend=_legend(names, width, symbolType="stroke")
    )


def _scale(names: Sequence[str], marks: Sequence[Any]) -> alt.Scale:
    """One mark for each of any number of names; again from the first where they are used up."""
    import altair as alt

    return alt.Scale(domain=list(names), range=[marks[index % len(marks)] for index in range(len(names))])


def _legend(names: Sequence[str], width: float, **more: Any) -> alt.Legend | None:
    import altair as alt

    longest = max((len(name) for name in names), default=0) * CHARACTER + 34
    columns = max(1, int(width / longest))
    return alt.Legend(title=None, orient="bottom", columns=columns, **more) if len(names) > 1 else None


def heading(text: str, under: str = "", width: float = WIDTH) -> alt.TitleParams:
    """A title, on as many lines as the width asks for."""
    import altair as alt

    below = {"subtitle": _wrapped(under, width / UNDER)} if under else {}
    return alt.TitleParams(_wrapped(text, width), **below)


def _wrapped(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, max(20, int(width / CHARACTER))) or [""]


def at_zero() -> alt.Chart:
    """A line at zero."""
    import altair as alt

    return alt.Chart(data([{"y": 0}])).mark_rule(style="guide").encode(y="y:Q")


def bounded(rows: Iterable[Mapping[str, Any]], name: str = "low") -> bool:
    """Whether there are bounds to draw: an axis of nothing but nulls has no ends, of which a browser warns."""
    return any(plain(row.get(name)) is not None for row in rows)


def alone(layers: Sequence[Any], width: float, height: float, title: str) -> alt.LayerChart:
    """A panel of layers."""
    import altair as alt

    return alt.layer(*layers).properties(width=width, height=height, title=heading(title, width=width))


def beside(
    panels: Sequence[Any], columns: int, title: str = "", under: str = "", shared: Sequence[str] = ()
) -> alt.ConcatChart:
    """Panels in rows of so many, with scales of their own but for those of the `shared` channels."""
    import altair as alt

    joined = alt.concat(*panels, columns=columns)
    joined = joined.resolve_scale(**{one: "shared" if one in shared else "independent" for one in CHANNELS})
    return joined.properties(title=headline(title, under, columns * WIDTH)) if title else joined


def headline(title: str, under: str, width: float) -> alt.TitleParams:
    """The title of a whole picture."""
    import altair as alt

    below = {"subtitle": _wrapped(under, width / UNDER)} if under else {}
    return alt.TitleParams(_wrapped(title, width), fontSize=15, offset=14, **below)


def thinned(curve: pd.Series[float], most: int = POINTS) -> pd.Series[float]:
    """Every so many of a curve's values, and the last one, so that a panel holds no more than it can show."""
    if len(curve) <= most:
        return curve
    step = -(-(len(curve) - 1) // (most - 1))
    kept = sorted({*range(0, len(curve), step), len(curve) - 1})
    return curve.iloc[kept]


@dataclass(frozen=True)
class Panel:
    """A panel of curves over an axis of numbers.

    Attributes:
        domain: where y ends; by default as the values ask.
        names: of all series that the picture has, in the order of their colours; by default those of this panel.
    """

    title: str
    x: str
    y: str
    domain: tuple[float, float] | None = None
    names: Sequence[str] = ()

    def lines(
        self,
        curves: Mapping[str, pd.Series[float]],
        trends: Mapping[str, pd.Series[float]] | None = None,
        points: Collection[str] = (),
        zero: bool = False,
    ) -> alt.LayerChart:
        """Curves by name.

        Args:
            trends: what is drawn strongly, above curves of the same names that are drawn faintly.
            points: the names of curves that are few values, or a cloud: no line joins them.
            zero: draw a line there.
        """
        import altair as alt

        trends = trends or {}
        names = list(self.names or curves)
        rows = [
            {"series": name, "x": at, "y": value, "kind": kind}
            for name in curves
            for kind, curve in self._kinds(curves[name], trends.get(name), name in points)
            for at, value in thinned(curve).items()
        ]
        every = alt.Chart(data(rows)).encode(
            x=alt.X("x:Q", title=self.x, axis=alt.Axis(format=",d", tickCount=5)),
            y=alt.Y("y:Q", title=self.y, scale=alt.Scale(domain=list(self.domain)) if self.domain else alt.Scale(zero=False)),
            color=by_colour("series", names),
            tooltip=["series:N", alt.Tooltip("x:Q", title=self.x), alt.Tooltip("y:Q", title=self.y)],
        )
        layers = [at_zero()] if zero else []
        present = {row["kind"] for row in rows}
        if "faint" in present:
            layers.append(every.transform_filter("datum.kind === 'faint'").mark_line(strokeWidth=0.8, opacity=0.35))
        if "cloud" in present:
            cloud = every.transform_filter("datum.kind === 'cloud'").mark_point(filled=True, size=14, opacity=0.55)
            layers.append(cloud.encode(shape=by_shape("series", names)))
        if "line" in present:
            line = every.transform_filter("datum.kind === 'line'").mark_line(strokeWidth=1.8)
            layers.append(line.encode(strokeDash=by_dash("series", names)))
            few = [name for name, curve in curves.items() if len(curve) <= FEW and name not in trends]
            marked = every.transform_filter(f"datum.kind === 'line' && indexof({json.dumps(few)}, datum.series) >= 0")
            layers += [marked.mark_point(filled=True, size=28, opacity=1)] if few else []
        return alone(layers, WIDTH, HEIGHT, self.title)

    @staticmethod
    def _kinds(curve: pd.Series[float], trend: pd.Series[float] | None, cloud: bool) -> Iterator[tuple[str, pd.Series[float]]]:
        if trend is None:
            yield "cloud" if cloud else "line", curve
        else:
            yield "cloud" if cloud else "faint", curve
            yield "line", trend
