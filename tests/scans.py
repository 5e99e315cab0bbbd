"""Files of every kind with a bright disc in a gray head, and a network that marks what is bright."""

import keras
import numpy as np
from PIL import Image

CHANNELS = ("T1", "FLAIR", "T1ce")
SHAPE = (90, 110)


def disc(shape=SHAPE, radius=14):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 <= radius**2


def slice_of(shape=SHAPE, tumour=None):
    """Background 0, tissue 80, tumour 200; every edge a step."""
    tumour = disc(shape) if tumour is None else tumour
    head = disc(shape, 0.45 * min(shape))
    return (80 * head + 120 * tumour).astype(np.uint8)


def overlap(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def brightness_model(weights=(1, 1, 1), level=1.6):
    """Tumour is what is brighter than `level` times the tissue, in the mean of the channels with weight."""
    image = keras.Input((None, None, len(weights)))
    answer = keras.layers.Conv2D(1, 1, activation="sigmoid", name="bright")(image)
    model = keras.Model(image, answer, name="brightness")
    kernel = 40 * np.array(weights, "float32").reshape(1, 1, -1, 1) / sum(weights)
    model.get_layer("bright").set_weights([kernel, np.array([-40 * level], "float32")])
    return model


def nifti_file(path, axes, *, center=15, fill=None):
    """A volume of 28 x 30 x 6 voxels of 1 x 2 x 4 mm with a bright block, its axes in the order and sense asked for."""
    import nibabel
    from nibabel import orientations

    data = np.zeros((28, 30, 6), np.float32)
    data[3:25, 3:27] = 80
    truth = np.zeros(data.shape, bool)
    truth[center - 3 : center + 4, 8:18, 2:5] = True
    data[truth] = 200 if fill is None else fill
    change = orientations.ornt_transform(orientations.axcodes2ornt("LPS"), orientations.axcodes2ornt(axes))
    affine = np.array([[-1, 0, 0, 12], [0, -2, 0, 33], [0, 0, 4, -7], [0, 0, 0, 1]], float)
    affine = affine @ orientations.inv_ornt_aff(change, data.shape)
    turned = orientations.apply_orientation(data, change)
    image = nibabel.Nifti1Image(turned, affine)
    image.header["descrip"] = b"a head"
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path, orientations.apply_orientation(truth, change)


def dicom_file(path, pixels, *, number=1, series="1.2.3"):
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    header = FileMetaDataset()
    header.TransferSyntaxUID = ExplicitVRLittleEndian
    header.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    header.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name, str(number)])
    file = pydicom.Dataset()
    file.file_meta = header
    file.SOPClassUID, file.SOPInstanceUID = header.MediaStorageSOPClassUID, header.MediaStorageSOPInstanceUID
    file.SeriesInstanceUID, file.Modality, file.InstanceNumber = series, "MR", number
    file.Rows, file.Columns = pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.PixelSpacing, file.SliceThickness = [0.8, 0.6], 3
    file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, 5 * number], [1, 0, 0, 0, 1, 0]
    file.RescaleSlope, file.RescaleIntercept = 2, -10
    file.PixelData = (pixels.astype(np.uint16) * 3).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)


def lgg_folder(path, patients=6, slices=8):
    """Patients whose bright disc is nearly the mask: moved by some pixels, with spots that are no tumour."""
    rng = np.random.default_rng(0)
    for patient in range(patients):
        folder = path / f"TCGA_XX_{patient:04}_20000101"
        folder.mkdir(parents=True)
        for number in range(1, slices + 1):
            radius = 10 - 2.5 * abs(number - slices / 2)
            tumour = disc((60, 60), radius) if radius > 0 else np.zeros((60, 60), bool)
            bright = np.roll(tumour, rng.integers(-3, 4, 2), (0, 1))
            if patient % 2:
                bright[20:23, 14 : 14 + number] = True
            pixels = slice_of((60, 60), bright) + rng.integers(0, 30, (60, 60), np.uint8)
            name = f"{folder.name}_{number}"
            Image.fromarray(np.repeat(pixels[..., None], 3, -1)).save(folder / f"{name}.tif")
            Image.fromarray(np.uint8(tumour) * 255).save(folder / f"{name}_mask.tif")
    return path


GRAY, COLOR = slice_of(), np.repeat(slice_of()[..., None], 3, axis=-1)


def alpha(pixels):
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])


def palette(pixels):
    return Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE)


#: Name of the file and how it is written.
PICTURES = {
    "gray.png": lambda path: Image.fromarray(GRAY).save(path),
    "color.png": lambda path: Image.fromarray(COLOR).save(path),
    "alpha.png": lambda path: Image.fromarray(alpha(COLOR)).save(path),
    "gray_alpha.png": lambda path: Image.fromarray(alpha(GRAY), "LA").save(path),
    "palette.png": lambda path: palette(COLOR).save(path),
    "sixteen.png": lambda path: Image.fromarray(GRAY.astype(np.uint16) * 200).save(path),
    "sixteen.tif": lambda path: Image.fromarray(GRAY.astype(np.uint16) * 200).save(path),
    "float.tif": lambda path: Image.fromarray(GRAY.astype(np.float32) / 7).save(path),
    "color.jpg": lambda path: Image.fromarray(COLOR).save(path, quality=95),
    "gray.jpeg": lambda path: Image.fromarray(GRAY).save(path, quality=95),
    "color.tiff": lambda path: Image.fromarray(COLOR).save(path, compression="tiff_lzw"),
    "gray.bmp": lambda path: Image.fromarray(GRAY).save(path),
    "UPPER.PNG": lambda path: Image.fromarray(GRAY).save(path, "PNG"),
    "two.dots.png": lambda path: Image.fromarray(GRAY).save(path),
    "slice.dcm": lambda path: dicom_file(path, GRAY),
}
