"""What all pictures of a report have in common: colours, fonts, and how one becomes an SVG that stands in a page.

Needs matplotlib. Figures are about 380 pixels wide, so that they read at a phone's width; a page lays as many side by
side as fit.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from samplecache.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK: Final = "#1c2530"
QUIET: Final = "#6b7785"
LINE: Final = "#d9dee4"
AWAY: Final = "#f1efe9"
IN_RAM: Final = "#2a7f86"
READ: Final = "#3b6ea8"
FAULT: Final = "#d08a1d"
BROKEN: Final = "#c8323f"
FINE: Final = "#2c7a4b"
WIDTH_IN: Final = 3.95
DPI: Final = 96
FONT_PT: Final = 8.6
LETTER_IN: Final = 0.066
FOOT_IN: Final = 0.46
"""Room for a letter, and for an axis and what it is called."""


def require_matplotlib() -> None:
    """Raise unless pictures can be drawn.

    Raises
    ------
    ConfigurationError
        matplotlib or jinja2 is not installed.
    """
    try:
        import jinja2
        import matplotlib
    except ImportError as error:
        raise ConfigurationError(
            f"The report needs {error.name}, which is not installed", remedy="Install samplecache[lab]"
        ) from error
    del jinja2, matplotlib


def settings() -> Any:
    """Return a context in which pictures look as they should in a report."""
    import matplotlib as mpl

    return mpl.rc_context(
        {
            "font.size": FONT_PT,
            "axes.titlesize": FONT_PT + 1,
            "axes.edgecolor": LINE,
            "axes.labelcolor": QUIET,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": QUIET,
            "ytick.color": QUIET,
            "xtick.major.size": 2.5,
            "ytick.major.size": 2.5,
            "text.color": INK,
            "svg.fonttype": "none",
            "svg.hashsalt": "samplecache",
            "figure.dpi": DPI,
        }
    )


def figure_for(height_in: float, labels: Sequence[str], *, right_in: float = 0.12, top_in: float = 0.1) -> Figure:
    """Return a figure with room for `labels` at its left. Margins are reckoned, which is a tenth of a layout's time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in))
    left_in = 0.16 + LETTER_IN * max(map(len, labels), default=0)
    figure.subplots_adjust(
        left=left_in / WIDTH_IN,
        right=1 - right_in / WIDTH_IN,
        bottom=FOOT_IN / height_in,
        top=1 - top_in / height_in,
    )
    return figure


def as_svg(figure: Figure, name: str, title: str) -> str:
    """Return a figure as an SVG element whose ids are no other's, and which a screen reader can name."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)
    svg = re.sub(r'<svg height="[^"]*"', "<svg", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{_plain(title)}"', 1)


def _plain(text: str) -> str:
    return re.sub(r"[<>&\"]", " ", text)
