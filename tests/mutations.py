"""Ways to damage a file, each from a random generator: anywhere in its bytes, or where its format has its numbers."""

import gzip
import json
import struct
import zlib

#: Whole numbers at which headers go wrong, by their bytes.
_EXTREMES = {
    size: [0, 1, 2**31 - 1, 255, 256, 65535, *(2**n for n in range(2, 8 * size, 7)), -1] for size in (1, 2, 4, 8)
}
_FLOATS = [0.0, -1.0, 1.0, 1e-45, 1e38, -1e38, float("nan"), float("inf"), float("-inf"), 352.5, 1e9]
_TEXTS = [
    "",
    "nan",
    "inf",
    "-1",
    "1e999",
    "abc",
    "9" * 30,
    "0",
    "\x00",
    "é",
    "\\\\\\",
    "1,2",
    '"',
    "../..",
    "1.5",
    "[/b]",
]


def _place(content, rng, size=1):
    return int(rng.integers(0, max(1, len(content) - size + 1)))


def _span(content, rng):
    start = _place(content, rng)
    return start, start + 1 + int(rng.integers(0, max(1, min(200, len(content) - start))))


def _extreme(rng, size):
    return int(rng.choice(_EXTREMES[size])) % 2 ** (8 * size)


# ---- anywhere


def flip_bits(content, rng):
    content = bytearray(content)
    for _ in range(int(rng.integers(1, 17)) if content else 0):
        content[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(content)


def flip_early_bits(content, rng):
    """Headers stand at the beginning."""
    head = int(rng.integers(8, 512))
    return flip_bits(content[:head], rng) + content[head:]


def truncate(content, rng):
    return content[: _place(content, rng)]


def insert_zeros(content, rng):
    start = _place(content, rng)
    return content[:start] + bytes(int(rng.integers(1, 600))) + content[start:]


def blank_out(content, rng):
    start, end = _span(content, rng)
    return content[:start] + bytes([int(rng.choice([0, 255, 127, 128, 32]))]) * (end - start) + content[end:]


def duplicate_part(content, rng):
    start, end = _span(content, rng)
    return content[:end] + content[start:end] * int(rng.integers(1, 4)) + content[end:]


def remove_part(content, rng):
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def swap_parts(content, rng):
    (a, b), (c, d) = sorted([_span(content, rng), _span(content, rng)])
    return content if b > c else content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def extreme_number(content, rng):
    size = int(rng.choice([1, 2, 4, 8]))
    start = _place(content, rng, size)
    number = _extreme(rng, size).to_bytes(size, "little" if rng.random() < 0.7 else "big")
    return content[:start] + number + content[start + size :]


ANYWHERE = (
    flip_bits,
    flip_early_bits,
    truncate,
    insert_zeros,
    blank_out,
    duplicate_part,
    remove_part,
    swap_parts,
    extreme_number,
)


def inside_gzip(damage):
    """Damage what a .gz file holds: damage outside is mostly found by its checksum."""

    def inside(content, rng):
        try:
            return gzip.compress(damage(gzip.decompress(content), rng), 1, mtime=0)
        except (OSError, EOFError, zlib.error):  # it is damaged already
            return damage(content, rng)

    inside.__name__ = f"inside_gzip_{damage.__name__}"
    return inside


# ---- by format

#: Offset, layout and, where only some numbers say something, these.
_NIFTI = (
    [(0, "i", None)]
    + [(40 + 2 * axis, "h", (0, 1, 2, 3, 4, 5, 7, 8, -1, 32767, -32768)) for axis in range(8)]
    + [(70, "h", (0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 9999, -1))]
    + [(72, "h", None), (123, "B", None), (252, "h", (0, 1, 2, 4, 99, -1)), (254, "h", (0, 1, 2, 4, 99, -1))]
    + [(index, "f", None) for index in (*range(76, 124, 4), *range(256, 328, 4))]
    + [(344, "i", None), (348, "i", None), (352, "i", None), (356, "i", None)]
)


def nifti_fields(content, rng):
    content = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        offset, layout, numbers = _NIFTI[rng.integers(len(_NIFTI))]
        if offset + struct.calcsize(layout) > len(content):
            continue
        if layout == "f":
            struct.pack_into("<f", content, offset, float(rng.choice(_FLOATS)))
        elif numbers:
            struct.pack_into(f"<{layout}", content, offset, int(rng.choice(numbers)))
        else:
            size = struct.calcsize(layout)
            content[offset : offset + size] = _extreme(rng, size).to_bytes(size, "little")
    return bytes(content)


def png_chunks(content, rng):
    chunks, offset = [], 8
    while offset + 8 <= len(content):
        length = int.from_bytes(content[offset : offset + 4], "big")
        chunks.append((content[offset + 4 : offset + 8], content[offset + 8 : offset + 8 + length]))
        offset += 12 + length
    if not chunks:
        return flip_bits(content, rng)
    chosen, way = int(rng.integers(len(chunks))), int(rng.integers(5))
    name, data = chunks[chosen]
    if way == 0:
        data = ANYWHERE[rng.integers(len(ANYWHERE))](data, rng)
        chunks[chosen] = (name, data)
    elif way == 1:
        chunks.insert(int(rng.integers(len(chunks) + 1)), chunks[chosen])
    elif way == 2:
        chunks.pop(chosen)
    elif way == 3:
        chunks.insert(int(rng.integers(len(chunks) + 1)), chunks.pop(chosen))
    else:
        new = (b"tRNS", b"PLTE", b"iCCP", b"zTXt", b"eXIf", b"acTL", b"fcTL", b"pHYs", b"gAMA", b"IEND")
        chunks.insert(
            int(rng.integers(len(chunks) + 1)), (new[rng.integers(len(new))], rng.bytes(int(rng.integers(40))))
        )
    written = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return content[:8] + written


def tiff_tags(content, rng):
    content = bytearray(content)
    order = "<" if content[:2] == b"II" else ">"
    if len(content) < 8:
        return bytes(content)
    directory = struct.unpack_from(f"{order}I", content, 4)[0]
    if directory + 2 > len(content):
        return flip_bits(bytes(content), rng)
    count = struct.unpack_from(f"{order}H", content, directory)[0]
    for _ in range(int(rng.integers(1, 4))):
        tag = directory + 2 + 12 * int(rng.integers(max(1, count)))
        offset, layout = [(0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")][rng.integers(5)]
        if tag + 12 > len(content):
            continue
        size = struct.calcsize(f"<{layout}")
        number = int(rng.integers(254, 340)) if offset == 0 else _extreme(rng, size)
        number = int(rng.integers(0, 14)) if offset == 2 else number
        struct.pack_into(f"{order}{layout}", content, tag + offset, number)
    return bytes(content)


def bmp_fields(content, rng):
    content = bytearray(content)
    offset, size = [(2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4)][
        rng.integers(10)
    ]
    content[offset : offset + size] = _extreme(rng, size).to_bytes(size, "little")
    return bytes(content)


def _dicom_elements(content):
    """Places of the elements of a file in explicit VR: of tag, of value, and its length."""
    offset = 132
    while offset + 8 <= len(content):
        long = content[offset + 4 : offset + 6] in (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN", b"OD", b"OL")
        head = 12 if long else 8
        if offset + head > len(content):
            return
        length = struct.unpack_from("<I" if long else "<H", content, offset + (8 if long else 6))[0]
        length = min(length, len(content) - offset - head)
        yield offset, offset + head, length
        offset += head + length


def dicom_elements(content, rng):
    elements = list(_dicom_elements(content))
    if not elements:
        return flip_bits(content, rng)
    tag, value, length = elements[rng.integers(len(elements))]
    end, way = value + length, int(rng.integers(6))
    if way == 0:
        text = str(rng.choice(_TEXTS)).encode("utf-8")
        return content[:value] + text.ljust(length)[:length] + content[end:]
    if way == 1:
        kinds = (b"DS", b"IS", b"US", b"UI", b"SQ", b"OB", b"OW", b"UN", b"FD", b"AT", b"ZZ", b"LO")
        return content[: tag + 4] + kinds[rng.integers(len(kinds))] + content[tag + 6 :]
    if way == 2:
        return content[:tag] + content[end:]
    if way == 3:
        return content[:end] + content[tag:end] + content[end:]
    if way == 4:
        size = value - tag - 6 if value - tag == 8 else 4
        return content[: value - size] + _extreme(rng, size).to_bytes(size, "little") + content[value:]
    return content[:value] + _extreme(rng, 2).to_bytes(2, "little").ljust(length, b"\0")[:length] + content[end:]


def hdf5_fields(content, rng):
    """Numbers that follow the mark of a structure."""
    marks = (b"\x89HDF", b"TREE", b"SNOD", b"OHDR", b"HEAP", b"FRHP", b"BTHD", b"GCOL", b"FADB", b"EAHD")
    offsets = [at for mark in marks for at in _all(content, mark)]
    content = bytearray(content)
    start = int(rng.choice(offsets)) if offsets else 0
    for _ in range(int(rng.integers(1, 4))):
        size = int(rng.choice([1, 2, 4, 8]))
        at = start + 4 + int(rng.integers(0, 120))
        if at + size <= len(content):
            content[at : at + size] = _extreme(rng, size).to_bytes(size, "little")
    return bytes(content)


def _all(content, mark):
    at = content.find(mark)
    while at >= 0:
        yield at
        at = content.find(mark, at + 1)


def csv_cells(content, rng):
    rows = [line.split(",") for line in content.decode("utf-8", "replace").split("\n")]
    for _ in range(int(rng.integers(1, 4))):
        row = rows[rng.integers(len(rows))]
        index, way = int(rng.integers(len(row))), int(rng.integers(4))
        if way == 0:
            row[index] = str(rng.choice(_TEXTS))
        elif way == 1:
            row.insert(index, row[index])
        elif way == 2 and len(row) > 1:
            row.pop(index)
        else:
            rows.insert(int(rng.integers(len(rows))), list(row))
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "replace")


def json_values(content, rng):
    values = [
        None,
        -1,
        1e308,
        "abc",
        [],
        {},
        [[]],
        {"0": None},
        {"x": "FLAIR"},
        True,
        "0",
        ["FLAIR"],
        {"0": "", "1": ""},
    ]
    try:
        data = json.loads(content)
    except ValueError:
        return flip_bits(content, rng)
    if not isinstance(data, dict) or not data or rng.random() < 0.2:
        return json.dumps(values[rng.integers(len(values))]).encode()
    key = sorted(data)[rng.integers(len(data))]
    inner = data[key]
    if isinstance(inner, dict) and inner and rng.random() < 0.6:
        inner[sorted(inner)[rng.integers(len(inner))]] = values[rng.integers(len(values))]
    else:
        data[key] = values[rng.integers(len(values))]
    return json.dumps(data).encode()


#: What knows the numbers of a format, by the file's ending.
BY_FORMAT = {
    ".nii": (nifti_fields,),
    ".nii.gz": (inside_gzip(nifti_fields), *map(inside_gzip, ANYWHERE)),
    ".png": (png_chunks,),
    ".tif": (tiff_tags,),
    ".tiff": (tiff_tags,),
    ".bmp": (bmp_fields,),
    ".dcm": (dicom_elements,),
    ".h5": (hdf5_fields,),
    ".csv": (csv_cells,),
    ".json": (json_values,),
}


def mutate(content, name, rng):
    """Damage a file's content in one to three ways; half of them know its format."""
    known = next(
        (ways for ending, ways in sorted(BY_FORMAT.items(), reverse=True) if name.lower().endswith(ending)), ()
    )
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        ways = known if known and rng.random() < 0.5 else ANYWHERE
        content = ways[rng.integers(len(ways))](content, rng)
    return content
