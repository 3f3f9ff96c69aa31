"""Check that the texts of a figure can be read."""

from matplotlib.axis import Tick
from matplotlib.text import Text


def assert_readable(figure):
    """Check that no two texts overlap, and none leaves the canvas."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    hidden = undrawn(figure)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    shown = [text for text in texts if text not in hidden]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in shown]
    assert len(boxes) > 4
    for number, (words, box) in enumerate(boxes):
        assert box.x0 >= -1, words
        assert box.y0 >= -1, words
        assert box.x1 <= figure.bbox.x1 + 1, words
        assert box.y1 <= figure.bbox.y1 + 1, words
        for others, other in boxes[number + 1 :]:
            wide = min(box.x1, other.x1) - max(box.x0, other.x0)
            high = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert wide < 1 or high < 1, (words, others)


def undrawn(figure):
    """Return labels of ticks outside their axis and of hidden axes, which matplotlib keeps and does not draw."""
    kept = {label for tick in figure.findobj(Tick) for label in (tick.label1, tick.label2)}
    for panel in figure.axes:
        if not panel.axison:
            kept |= set(panel.findobj(Text))
            continue
        for axis, ends in ((panel.xaxis, panel.get_xlim()), (panel.yaxis, panel.get_ylim())):
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if min(ends) <= tick.get_loc() <= max(ends):
                    kept -= {tick.label1, tick.label2}
    return kept
