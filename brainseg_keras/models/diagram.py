"""Draw a U-Net of this package as a figure for a paper: `draw_architecture("attention_unet", "figure.pdf")`.

What is drawn is read from the model's graph (its layers, their calls and shapes), so the figure cannot drift from
the network.
"""

from pathlib import Path
from typing import Any

import keras
import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from brainseg_keras.errors import InputError
from brainseg_keras.files import MAKER, check_replaceable, write_whole
from brainseg_keras.models.complexity import count_flops
from brainseg_keras.models.graph import TIMES, legend_blocks, read_graph, times
from brainseg_keras.models.registry import build_model

COLORS = {"encoder": "#4477aa", "bottleneck": "#66447f", "decoder": "#ee8866", "skip": "#a9c1d9", "up": "#f7c9b4"}
GATE, INK, FAINT = "#228833", "#333333", "#f3f3f5"
ALPHA = "\N{GREEK SMALL LETTER ALPHA}"


def draw_architecture(model: keras.Model | str, path: str | Path, **kwargs: Any) -> Path:
    """Draw a network as a U: its levels, widths and sizes, gates, skip connections and what its blocks are made of.

    Args:
        model: A model that a recipe or `build_unet` built, or the name of a recipe.
        path: Where to write; the suffix, `.png` (300 dpi), `.svg` or `.pdf`, decides the format.
        **kwargs: Arguments of the recipe, when `model` is a name.

    Returns:
        The path that was written.

    Raises:
        InputError: When the suffix is another, the model is not one of this package, or an argument is unknown; a file
            that is there and was not drawn here.

    Example:
        >>> import tempfile
        >>> draw_architecture("unet", tempfile.mkdtemp() + "/unet.svg", filters=16).name
        'unet.svg'
    """
    path = Path(path)
    metadata = {
        ".png": {"Software": MAKER},
        ".svg": {"Creator": MAKER, "Date": None},
        ".pdf": {"Creator": MAKER, "CreationDate": None},
    }.get(path.suffix.lower())
    if metadata is None:
        raise InputError(f"path must end in .png, .svg or .pdf. Received: path={str(path)!r}.")
    if isinstance(model, str):
        model = build_model(model, **kwargs)
    elif kwargs:
        raise InputError(f"Arguments go with the name of a recipe, not with a model. Received: {sorted(kwargs)}.")
    check_replaceable(path, MAKER)
    figure = draw_figure(model)
    # Type 42 fonts, which journals ask for; without date and random ids the same model gives the same file.
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "brainseg_keras"}):
        write_whole(path, lambda scratch: figure.savefig(scratch, dpi=300, metadata=metadata))
    return path


def draw_figure(model: keras.Model) -> Figure:
    """Return the figure that `draw_architecture` writes."""
    graph = read_graph(model)
    layout = _Layout(graph)
    figure = Figure(figsize=(layout.width / 2, layout.height / 2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, layout.width), ylim=(-layout.height, 0), aspect="equal")
    axes.axis("off")
    own = None not in model.input_shape[1:3]
    sizes = []
    for level in range(graph.depth + 1):
        rows, columns = graph.encoder[level].shape[1:3]
        share = "" if level == 0 else f"/{2**level}"
        sizes.append(f"{rows} {TIMES} {columns}" if own else f"H{share} {TIMES} W{share}")
    _draw_levels(axes, layout, sizes)
    _draw_encoder(axes, layout, graph)
    _draw_decoder(axes, layout, graph)
    flops = (
        f"{count_flops(model, None):.4g} GFLOPs at {sizes[0]}"
        if own
        else f"{count_flops(model):.4g} GFLOPs at {times(256, 256)}"
    )
    title = f"{model.name}: {model.count_params():,} parameters, {flops}"
    axes.text(layout.width / 2, -0.7, title, ha="center", va="center", fontsize=11, color=INK, weight="bold")
    _draw_legend(axes, layout, graph)
    return figure


class _Layout:
    """Where things stand, in units of half an inch; y grows downwards as negative numbers."""

    left, top, step = 3.3, 1.5, 2.6

    def __init__(self, graph):
        self.depth = graph.depth
        self.heights = [2.6 * 0.74**level for level in range(graph.depth + 1)]
        self.rows, y = [], -self.top
        for height in self.heights:
            self.rows.append(y - 0.75 - height / 2)
            y -= height + 1.5
        self.legend = y - 0.4
        self.lines = legend_blocks(graph)
        self.height = -self.legend + 2.6 + 0.55 * len(self.lines)
        self.width = self.decoder(0) + 4.3

    def encoder(self, level):
        return self.left + 1.3 + level * self.step

    def decoder(self, level):
        return self.encoder(self.depth) + (self.depth - level) * (self.step + 0.4)

    def joined(self, level):
        return self.decoder(level) - 1.25

    def band(self, level):
        height = self.heights[level] + 1.5
        return self.rows[level] - height / 2, height


def _thickness(channels):
    return 0.22 + 0.055 * max(channels, 1).bit_length()


def _box(axes, x, y, height, channels, color, label=None, below=False):
    width = _thickness(channels)
    axes.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, facecolor=color, edgecolor=INK, lw=0.6))
    anchor = (y - height / 2 - 0.14, "top") if below else (y + height / 2 + 0.12, "bottom")
    axes.text(x, anchor[0], label or str(channels), ha="center", va=anchor[1], fontsize=8, color=INK)


def _arrow(axes, points, color=INK, style="-", lw=1.1):
    """A line through the points, with a head at its end."""
    axes.plot(*zip(*points[:-1], strict=True), color=color, ls=style, lw=lw, solid_joinstyle="miter")
    arrow = FancyArrowPatch(
        points[-2], points[-1], arrowstyle="-|>", mutation_scale=8, color=color, ls=style, lw=lw, shrinkA=0, shrinkB=0
    )
    axes.add_patch(arrow)


def _draw_levels(axes, layout, sizes):
    for level, size in enumerate(sizes):
        bottom, height = layout.band(level)
        if level % 2 == 0:
            axes.add_patch(Rectangle((0.3, bottom), layout.width - 0.6, height, facecolor=FAINT, lw=0))
        y = layout.rows[level]
        axes.text(0.55, y + 0.22, f"Level {level}", ha="left", va="center", fontsize=8, color=INK, weight="bold")
        axes.text(0.55, y - 0.25, size, ha="left", va="center", fontsize=8, color=INK)


def _draw_encoder(axes, layout, graph):
    y, x = layout.rows[0], layout.encoder(0)
    _box(axes, x - 1.2, y, layout.heights[0], graph.channels[0], "white", f"image\n{graph.channels[0]}")
    _arrow(axes, [(x - 1.0, y), (x - _thickness(graph.encoder[0].shape[-1]) / 2, y)])
    for level in range(layout.depth + 1):
        channels = graph.encoder[level].shape[-1]
        bottom = level == layout.depth
        x, y, height = layout.encoder(level), layout.rows[level], layout.heights[level]
        _box(axes, x, y, height, channels, COLORS["bottleneck" if bottom else "encoder"], below=bottom)
        if not bottom:
            next_width = _thickness(graph.encoder[level + 1].shape[-1])
            target = (layout.encoder(level + 1) - next_width / 2, layout.rows[level + 1])
            _arrow(axes, [(x, y - height / 2), (x, target[1]), target], COLORS["encoder"], lw=1.5)


def _draw_decoder(axes, layout, graph):
    for level in range(layout.depth):
        deeper = graph.encoder if level + 1 == layout.depth else graph.decoder
        channels = deeper[level + 1].shape[-1]
        x_deep, y_deep = layout.decoder(level + 1), layout.rows[level + 1]
        x, y, height = layout.joined(level), layout.rows[level], layout.heights[level]
        up, skip = graph.concats[level]
        # The joined tensor in two colors: what came through the skip, and what came from below.
        half = _thickness(up + skip) / 2
        for offset, name in ((-half, "skip"), (0, "up")):
            color = COLORS[name]
            axes.add_patch(
                Rectangle((x + offset, y - height / 2), half, height, facecolor=color, edgecolor=INK, lw=0.6)
            )
        axes.text(x, y + height / 2 + 0.12, f"{skip}+{up}", ha="center", va="bottom", fontsize=8, color=INK)
        x_up = x + half / 2
        start = (x_deep + _thickness(channels) / 2, y_deep)
        _arrow(axes, [start, (x_up, y_deep), (x_up, y - height / 2)], COLORS["decoder"], lw=1.5)
        x_skip = layout.encoder(level) + _thickness(graph.encoder[level].shape[-1]) / 2
        _draw_skip(axes, graph.gates.get(level), (x_skip, x - half, y), (x_deep, y_deep, x_up, y - height / 2 - 0.35))
        out = graph.decoder[level].shape[-1]
        _arrow(axes, [(x + half, y), (layout.decoder(level) - _thickness(out) / 2, y)])
        _box(axes, layout.decoder(level), y, height, out, COLORS["decoder"], below=True)
    y, x = layout.rows[0], layout.decoder(0)
    _arrow(axes, [(x + _thickness(out := graph.decoder[0].shape[-1]) / 2, y), (x + 1.55, y)])
    _box(axes, x + 1.75, y, layout.heights[0], graph.channels[1], "white", f"mask\n{graph.channels[1]}")


def _draw_skip(axes, gate, skip, gating):
    """The skip connection of a level and, where there is one, its gate with the signal that drives it."""
    x_start, x_end, y = skip
    if gate is None:
        _arrow(axes, [(x_start, y), (x_end, y)], "#777777")
        return
    x_deep, y_deep, x_up, y_branch = gating
    radius, x = 0.27, x_deep
    _arrow(axes, [(x_start, y), (x - radius, y)], "#777777")
    _arrow(axes, [(x + radius, y), (x_end, y)], "#777777")
    axes.add_patch(Circle((x, y), radius, facecolor="white", edgecolor=GATE, lw=1.4, zorder=3))
    axes.text(x, y - 0.02, ALPHA, ha="center", va="center", fontsize=9, color=GATE, zorder=4)
    start = [(x, y_deep)] if gate == "coarse" else [(x_up, y_branch), (x, y_branch)]
    _arrow(axes, [*start, (x, y - radius)], GATE, "--")


def _draw_legend(axes, layout, graph):
    y = layout.legend
    entries = [
        ("encoder", "encoder block"),
        ("bottleneck", "bottleneck block"),
        ("decoder", "decoder block"),
        ("skip", "from the skip connection"),
        ("up", "from below"),
    ]
    arrows = [(COLORS["encoder"], "-", graph.pool), (COLORS["decoder"], "-", f"Up: {graph.up}")]
    arrows += [("#777777", "-", "Skip connection")]
    if graph.gates:
        kind = "level below" if "coarse" in graph.gates.values() else "up-sampled tensor"
        arrows.append((GATE, "--", f"Gate {ALPHA}, driven by the {kind}"))
    step = (layout.width - 1.2) / len(entries)
    for number, (key, text) in enumerate(entries):
        x = 0.6 + number * step
        axes.add_patch(Rectangle((x, y - 0.15), 0.3, 0.3, facecolor=COLORS[key], edgecolor=INK, lw=0.6))
        axes.text(x + 0.45, y, text, ha="left", va="center", fontsize=8, color=INK)
    step = (layout.width - 1.2) / len(arrows)
    for number, (color, style, text) in enumerate(arrows):
        x = 0.6 + number * step
        _arrow(axes, [(x, y - 0.7), (x + 0.55, y - 0.7)], color, style)
        axes.text(x + 0.7, y - 0.7, text, ha="left", va="center", fontsize=8, color=INK)
    lines = [*layout.lines, f"Output: {graph.head}.    Numbers at the boxes are channels."]
    for number, line in enumerate(lines):
        axes.text(0.6, y - 1.4 - 0.55 * number, line, ha="left", va="center", fontsize=8, color=INK)
