"""Files that a reader must refuse: each damaged in one way that libraries answer with errors of their own."""

import struct
import zlib

import h5py
import numpy as np
from PIL import Image
from scans import GRAY, PICTURES, dicom_file, nifti_file


def truncated(path):
    PICTURES["gray.png"](path)
    path.write_bytes(path.read_bytes()[:200])


def huge_png(path):
    """A header that promises 20,000 x 20,000 pixels, and no pixels."""
    content = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + content
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    path.write_bytes(head + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)))


def pages(path):
    Image.fromarray(GRAY).save(path, save_all=True, append_images=[Image.fromarray(GRAY)])


def without_width(path):
    """A TIFF whose directory lacks the tag 256."""
    Image.fromarray(GRAY).save(path)
    content = bytearray(path.read_bytes())
    directory = struct.unpack_from("<I", content, 4)[0]
    tags = range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", content, directory)[0], 12)
    offset = next(tag for tag in tags if struct.unpack_from("<H", content, tag)[0] == 256)
    struct.pack_into("<H", content, offset, 65_000)
    path.write_bytes(content)


def encapsulated_postscript(path):
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n")


def nifti_field(offset, layout, *values):
    """A volume with one field of its header overwritten."""

    def write(path):
        nifti_file(path, "RAS")
        content = bytearray(path.read_bytes())
        struct.pack_into(layout, content, offset, *values)
        path.write_bytes(content)

    return write


def nifti_of(dtype):
    def write(path):
        import nibabel

        nibabel.save(nibabel.Nifti1Image(np.zeros((20, 20, 4), dtype), np.eye(4)), path)

    return write


def dicom_value(tag, value):
    """A DICOM slice with the value of an element overwritten by another of its length."""

    def write(path):
        dicom_file(path, GRAY)
        content = bytearray(path.read_bytes())
        offset = content.index(struct.pack("<HH", *tag)) + 6
        length = struct.unpack_from("<H", content, offset)[0]
        content[offset + 2 : offset + 2 + length] = value.ljust(length)
        path.write_bytes(content)

    return write


def dicom_of_many_frames(path):
    import pydicom

    dicom_file(path, GRAY)
    file = pydicom.dcmread(path)
    file.Rows = file.Columns = 65535
    file.NumberOfFrames = 100_000
    file.save_as(path)


def hdf5_of(make):
    def write(path):
        with h5py.File(path, "w") as file:
            make(file)

    return write


def in_another_file(path):
    """An image that is a link: reading it would show a file that nobody gave."""
    with h5py.File(path.with_name("secret.hdf"), "w") as file:
        file["image"] = np.random.default_rng(0).random((32, 32, 4))
    with h5py.File(path, "w") as file:
        file["image"] = h5py.ExternalLink("secret.hdf", "image")


def raw_bytes_of_another_file(path):
    path.with_name("secret.txt").write_bytes(bytes(range(256)) * 16)
    with h5py.File(path, "w") as file:
        file.create_dataset("image", (32, 32, 4), "u1", external=[(str(path.with_name("secret.txt")), 0, 4096)])


#: Name of the file, how it is written, and words of the message.
BAD = {
    "text.png": (lambda path: path.write_text("no picture"), "Cannot decode"),
    "empty.png": (lambda path: path.write_bytes(b""), "Cannot decode"),
    "empty.tif": (lambda path: path.write_bytes(b""), "Cannot decode"),
    "truncated.png": (truncated, "Cannot decode"),
    "dot.png": (lambda path: Image.new("L", (1, 1), 9).save(path), "1 x 1 pixels"),
    "huge.png": (huge_png, "20000|Cannot decode"),
    "wide.png": (lambda path: Image.new("1", (8200, 20)).save(path), "8200 x 20"),
    "black.png": (lambda path: Image.new("L", (64, 64)).save(path), "nothing to see"),
    "pages.tif": (pages, "2 pictures"),
    "no_width.tif": (without_width, "Cannot decode"),
    "postscript.png": (encapsulated_postscript, "as PNG, JPEG, TIFF or BMP"),
    "nan.nii.gz": (lambda path: nifti_file(path, "RAS", fill=np.nan), "NaN"),
    "text.nii": (lambda path: path.write_text("no volume"), "as NIfTI"),
    "empty.nii.gz": (lambda path: path.write_bytes(b""), "as NIfTI"),
    "odd_code.nii": (nifti_field(70, "<h", 9999), "as NIfTI.*9999"),
    "promise.nii": (nifti_field(42, "<3h", 32000, 32000, 50), "204.8 GB when decoded"),
    "negative.nii": (nifti_field(42, "<h", -5), "shape is .-5"),
    "rgb.nii.gz": (nifti_of(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])), "holds colors"),
    "complex.nii": (nifti_of(np.complex64), "complex64"),
    "text.dcm": (lambda path: path.write_text("no slice"), "as DICOM"),
    "slope.dcm": (dicom_value((0x28, 0x1053), b"x "), "as DICOM"),
    "spacing.dcm": (dicom_value((0x28, 0x30), b"0.8\\a.b "), "spacing"),
    "place.dcm": (dicom_value((0x20, 0x32), b"0\\?\\5 "), "as DICOM"),
    "thick.dcm": (dicom_value((0x28, 0x30), b"-.8\\0.6 "), "measure .3.0, -0.8"),
    "promise.dcm": (dicom_of_many_frames, "GB when decoded"),
    "text.h5": (lambda path: path.write_text("no slice"), "as a BraTS slice"),
    "words.h5": (hdf5_of(lambda file: file.create_dataset("image", data=["a", "b"])), "Expected numbers"),
    "group.h5": (hdf5_of(lambda file: file.create_group("image")), "as a BraTS slice"),
    "promise.h5": (
        hdf5_of(lambda file: file.create_dataset("image", (10**6, 10**6, 4), "f4", chunks=(64, 64, 4))),
        "GB when decoded",
    ),
    "linked.h5": (in_another_file, "lies in another file"),
    "outside.h5": (raw_bytes_of_another_file, "lies in another file"),
}
