"""The names of layers: made here, and read back here alone.

image                                        the input
enc2_1_conv, enc2_shortcut_norm, enc2_act    the block of encoder level 2; level 0 is the full resolution
enc2_pool                                    behind it
dec0_up, dec0_up_conv                        what doubles height and width, up to decoder level 0
dec0_att_alpha                               the gate of the skip connection there, and its map
dec0_concat, dec0_1_conv                     what joins both; the block
logits, mask                                 the head
aux1_logits, aux1_mask                       the head of decoder level 1, while a network learns with deep supervision
"""

import re
from dataclasses import dataclass

IMAGE, LOGITS, MASK = "image", "logits", "mask"
#: What stands at a level beside its block.
POOL, UP, GATE, CONCAT = "pool", "up", "att", "concat"
#: The units of a block that have no number: the projection in front of a recurrent one, and the way around it.
PROJECTION, SHORTCUT = "in", "shortcut"
#: A gate's map; a coarse gate makes it one level below and enlarges it.
ALPHA, ENLARGED_ALPHA = "alpha", "alpha_up"
_AUXILIARY = "aux"

_LAYER = re.compile(
    rf"(?P<side>enc|dec)(?P<level>\d+)_"
    rf"(?:(?P<part>{POOL}|{UP}|{GATE}|{CONCAT})(?:_|$)|(?P<unit>{PROJECTION}|{SHORTCUT}|\d+)_)?(?P<rest>.*)"
)


@dataclass(frozen=True)
class LayerName:
    """What the name of a layer says.

    Args:
        block: The block of its level, such as "enc2".
        level: From 0, the full resolution.
        part: What it belongs to beside the block: `POOL`, `UP`, `GATE` or `CONCAT`; None within the block.
        unit: Which unit of the block: "1", "2", `PROJECTION` or `SHORTCUT`; None behind them, as for the addition.
        rest: What it is there, such as "conv", "norm_0" or `ALPHA`; empty for what has the part's own name.
    """

    block: str
    level: int
    part: str | None
    unit: str | None
    rest: str


def encoder(level: int, part: str | None = None) -> str:
    """Name the block of an encoder level, the deepest of which is the bottleneck, or a part beside it."""
    return f"enc{level}" if part is None else f"enc{level}_{part}"


def decoder(level: int, part: str | None = None) -> str:
    """Name the block of a decoder level or a part beside it."""
    return f"dec{level}" if part is None else f"dec{level}_{part}"


def auxiliary(level: int, part: str) -> str:
    """Name a part, `LOGITS` or `MASK`, of the head that a decoder level has in deep supervision."""
    return f"{_AUXILIARY}{level}_{part}"


def is_auxiliary(name: str) -> bool:
    """Say whether a layer belongs to a head of deep supervision, which no network keeps."""
    return name.startswith(_AUXILIARY)


def is_encoder(name: str) -> bool:
    """Say whether a layer belongs to the encoder, the bottleneck included."""
    found = parse(name)
    return found is not None and found.block == encoder(found.level)


def is_head(name: str) -> bool:
    """Say whether a layer belongs to the head, whose weights are for one answer alone."""
    return name in (MASK, LOGITS) or name.startswith(f"{LOGITS}_")


def parse(name: str) -> LayerName | None:
    """Read a name; None where it is not one of a level.

    Example:
        >>> parse("dec0_att_alpha")
        LayerName(block='dec0', level=0, part='att', unit=None, rest='alpha')
    """
    match = _LAYER.fullmatch(name)
    if match is None:
        return None
    return LayerName(match["side"] + match["level"], int(match["level"]), match["part"], match["unit"], match["rest"])
