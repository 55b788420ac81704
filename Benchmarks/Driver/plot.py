"""Curves as SVG, with nothing but the standard library."""

import math
from html import escape

COLOURS = ["#1f6fb4", "#d95f02", "#2a9d5c", "#8a4fbf", "#b8860b", "#c2376b"]
WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 44, 52


def short(value):
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return "%g%s" % (round(value / size, 1), letter)
    return "%g" % round(value, 3)


class Axis:
    """A logarithmic axis from the least to the greatest value, in pixels from `begin` to `end`."""

    def __init__(self, values, begin, end, marks):
        self.begin, self.end = begin, end
        self.low, self.high = math.log(min(values)), math.log(max(values))
        # A curve that is nearly flat should look so.
        room = max(0.08 * (self.high - self.low), (math.log(2) - (self.high - self.low)) / 2)
        if marks is None or self.high == self.low:
            self.low, self.high = self.low - room, self.high + room
            marks = marks or [step * 10**exponent for exponent in range(-6, 13) for step in (1, 2, 5)]
        inside = [mark for mark in sorted(marks) if self.low - 1e-9 <= math.log(mark) <= self.high + 1e-9]
        self.ticks = inside[:: math.ceil(len(inside) / 12)] if inside else []

    def place(self, value):
        part = (math.log(value) - self.low) / (self.high - self.low)
        return self.begin + part * (self.end - self.begin)


def svg(title, x_label, y_label, curves):
    """`curves` has for each name its points (x, y), all greater than zero."""
    curves = {name: [(x, y) for x, y in points if y and y > 0] for name, points in curves.items()}
    curves = {name: sorted(points) for name, points in curves.items() if points}
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    x_axis = Axis(xs, LEFT, WIDTH - RIGHT - 12, set(xs))
    y_axis = Axis(ys, HEIGHT - BOTTOM, TOP, None)
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">'
        % (WIDTH, HEIGHT),
        '<rect width="%d" height="%d" fill="#ffffff"/>' % (WIDTH, HEIGHT),
        '<text x="%d" y="20" font-size="15" fill="#222222">%s</text>' % (LEFT, escape(title)),
    ]

    def line(x1, y1, x2, y2, colour):
        out.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>' % (x1, y1, x2, y2, colour))

    def label(x, y, text, anchor="middle", more=""):
        out.append('<text x="%.1f" y="%.1f" text-anchor="%s" fill="#444444"%s>%s</text>'
                   % (x, y, anchor, more, escape(text)))

    for tick in x_axis.ticks:
        x = x_axis.place(tick)
        line(x, TOP, x, HEIGHT - BOTTOM, "#eeeeee")
        label(x, HEIGHT - BOTTOM + 17, short(tick))
    for tick in y_axis.ticks:
        y = y_axis.place(tick)
        line(LEFT, y, WIDTH - RIGHT, y, "#dddddd")
        label(LEFT - 7, y + 4, short(tick), "end")
    line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#888888")
    line(LEFT, TOP, LEFT, HEIGHT - BOTTOM, "#888888")
    label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    label(16, middle, y_label, "middle", ' transform="rotate(-90 16 %.1f)"' % middle)

    for index, (name, points) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join("%.1f,%.1f" % (x_axis.place(x), y_axis.place(y)) for x, y in points)
        out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>' % (path, colour))
        for x, y in points:
            out.append('<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>' % (x_axis.place(x), y_axis.place(y), colour))
        x = LEFT + 8 + index * (WIDTH - LEFT - RIGHT) / max(1, len(curves))
        out.append('<circle cx="%.1f" cy="35" r="4" fill="%s"/>' % (x, colour))
        label(x + 8, 39, name, "start")
    return "\n".join([*out, "</svg>", ""])
