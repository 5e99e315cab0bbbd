"""What a figure shows of a U-Net of this package, read from the model's graph: its layers, their calls and shapes."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby

import keras

from brainseg_keras.errors import InputError
from brainseg_keras.models import names
from brainseg_keras.models.complexity import layer_calls

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass
class Stage:
    """One block of the encoder or decoder, as found in the graph."""

    shape: tuple = ()
    calls: list = field(default_factory=list)  # the block's layers, one entry a call


@dataclass
class Graph:
    """What the figure shows of a model."""

    depth: int
    encoder: list[Stage]  # from full resolution down; the last is the bottleneck
    decoder: list[Stage]
    concats: dict  # level -> the channels that are joined: (up-sampled, skip)
    gates: dict  # level -> "same_scale" or "coarse"
    up: str
    pool: str
    head: str
    channels: tuple  # of the image and of the mask


def read_graph(model: keras.Model) -> Graph:
    """Read from a model's graph what the figure shows.

    Raises:
        InputError: When the model has not the layer names of this package's U-Nets.
    """
    stages, concats, gates, ups = {}, {}, {}, {}
    head, pool, mask = [], "", None
    for layer, _, received, result in layer_calls(model, _drawing_size(model)):
        found = names.parse(layer.name)
        if found is None:
            head.append(layer)
            mask = result
        elif found.part is None:
            stage = stages.setdefault(found.block, Stage())
            stage.calls.append(layer)
            stage.shape = result
        elif found.part == names.POOL:
            pool = f"Max pooling {times(*layer.pool_size)}"
        elif found.part == names.CONCAT:
            concats[found.level] = tuple(shape[-1] for shape in received)
        elif found.part == names.UP:
            ups.setdefault(found.level, []).append(layer)
        elif found.rest == names.ALPHA:
            gates[found.level] = result[1]
    depth = len(concats)
    down, back = [names.encoder(level) for level in range(depth + 1)], [names.decoder(level) for level in range(depth)]
    if not depth or set(stages) != {*down, *back} or mask is None:
        raise InputError(f"Only U-Nets of this package can be drawn. Received: a model {model.name!r}.")
    encoder, decoder = [stages[name] for name in down], [stages[name] for name in back]
    gates = {level: "same_scale" if rows == encoder[level].shape[1] else "coarse" for level, rows in gates.items()}
    channels = (model.input_shape[-1], mask[-1])
    up = ", ".join(_describe_layer(layer) for layer in ups[0])
    return Graph(depth, encoder, decoder, concats, gates, up, pool, ", ".join(map(_describe_layer, head)), channels)


def _drawing_size(model):
    """The model's own size or, where that is open, one that every level divides."""
    height, width = model.input_shape[1:3]
    return (height or 512, width or 512)


def times(*numbers: int) -> str:
    """Write sizes as "256×256"."""
    return TIMES.join(map(str, numbers))


def _describe_layer(layer):
    kernel = times(*getattr(layer, "kernel_size", ()))
    texts = {
        "SeparableConv2D": f"separable conv {kernel}",
        "Conv2DTranspose": f"transposed conv {kernel}",
        "Conv2D": f"conv {kernel}",
        "BatchNormalization": "BN",
        "GroupNormalization": "instance norm" if getattr(layer, "groups", 0) == -1 else "group norm",
        "SpatialDropout2D": "dropout",
        "UpSampling2D": f"nearest {TIMES}2",
    }
    kind = type(layer).__name__
    if kind != "Activation":
        return texts.get(kind, kind)
    name = layer.activation.__name__
    return {"relu": "ReLU", "linear": "no activation"}.get(name, name)


def describe_block(stage: Stage) -> str:
    """Say in a line what a block is made of, such as "2 × (conv 3×3, BN, ReLU)"."""
    counts = Counter(layer.name for layer in stage.calls)
    units, ending, seen = {}, [], set()
    residual = ""
    for layer in stage.calls:
        if layer.name in seen:
            continue
        seen.add(layer.name)
        found = names.parse(layer.name)
        if isinstance(layer, keras.layers.Add):
            residual = residual or ("" if found.unit else "residual")
        elif found.unit is None:
            ending.append(_describe_layer(layer))
        elif not found.rest.startswith("norm_") or found.rest == "norm_0":  # norms of later steps say nothing new
            units.setdefault(found.unit, []).append(layer)
    texts = {key: ", ".join(map(_describe_layer, layers)) for key, layers in units.items()}
    shortcut = texts.pop(names.SHORTCUT, "")
    for key, layers in units.items():
        calls = counts[layers[0].name]
        if calls > 1:
            texts[key] = f"{texts[key]}; one kernel, applied {calls} times"
    parts = []
    for text, group in groupby(texts.values()):
        number = len(list(group))
        parts.append(f"{number} {TIMES} ({text})" if number > 1 else f"({text})" if len(texts) > 1 else text)
    if residual:
        parts.append(f"+ shortcut ({shortcut})" if shortcut else "+ the first result")
    return " ".join([*parts, *([f"→ {', '.join(ending)}"] if ending else [])])


def legend_blocks(graph: Graph) -> list[str]:
    """One line for each kind of block, with the levels where it stands unless it is the only one."""
    stages = [(f"encoder level {level}", stage) for level, stage in enumerate(graph.encoder)]
    stages += [(f"decoder level {level}", stage) for level, stage in enumerate(graph.decoder)][::-1]
    kinds = {}
    for level, stage in stages:
        kinds.setdefault(describe_block(stage), []).append(level)
    if len(kinds) == 1:
        return [f"Block: {next(iter(kinds))}"]
    most = max(kinds, key=lambda text: len(kinds[text]))
    others = [f"Block of {', '.join(levels)}: {text}" for text, levels in kinds.items() if text != most]
    return [f"Block: {most}", *others]
