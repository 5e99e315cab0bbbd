"""DICOM as it is shown: inverted gray, rescaled values, slices in order, and their size. NIfTI of any axes."""

import nibabel
import numpy as np
import pydicom
import pytest
from scans import dicom_file

from brainseg_keras.data.decode.dicom import dicom_series, read_dicom
from brainseg_keras.data.decode.nifti import read_nifti
from brainseg_keras.errors import InputError, optional_import

PIXELS = np.arange(12).reshape(3, 4)


def change(path, **tags):
    """Write other tags into a file; None removes one."""
    file = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)


@pytest.fixture
def one(tmp_path):
    """3 x 4 pixels that hold three times PIXELS; shown is twice that, less 10."""
    dicom_file(tmp_path / "one.dcm", PIXELS)
    return tmp_path / "one.dcm"


def test_values_are_rescaled(one):
    images, names, spacing = read_dicom([one])
    assert names is None and images.shape == (1, 3, 4, 1)
    np.testing.assert_array_equal(images[0, ..., 0], 6 * PIXELS - 10)
    # Of a single slice its thickness; rows 0.8 mm apart, columns 0.6.
    assert spacing == (3, 0.8, 0.6)


def test_inverted_gray_is_turned_round(one):
    """MONOCHROME1 shows small values bright: tumour would come out dark."""
    change(one, PhotometricInterpretation="MONOCHROME1")
    images, _, _ = read_dicom([one])
    np.testing.assert_array_equal(images[0, ..., 0], 6 * PIXELS.max() - 6 * PIXELS)


def test_values_without_a_rule_are_as_stored(one):
    change(one, RescaleSlope=None, RescaleIntercept=None)
    np.testing.assert_array_equal(read_dicom([one])[0][0, ..., 0], 3 * PIXELS)


def series(folder, numbers, **tags):
    for number, index in enumerate(numbers):
        path = folder / f"{number}.dcm"
        dicom_file(path, PIXELS + index, number=index)
        change(path, **tags)
    return sorted(folder.iterdir())


def test_slices_are_in_order_along_their_normal_and_as_far_apart_as_they_lie(tmp_path):
    ((*files,),) = dicom_series(series(tmp_path, [3, 1, 2, 4]))
    assert [file.stem for file in files] == ["1", "2", "0", "3"]
    images, _, spacing = read_dicom(files)
    assert images[:, 0, 0, 0].tolist() == [6 * index - 10 for index in (1, 2, 3, 4)]
    # 5 mm from place to place, though each slice is 3 mm thick.
    assert spacing == (5, 0.8, 0.6)


def test_thin_slices_are_as_far_apart_as_they_lie_too(tmp_path):
    files = series(tmp_path, [1, 2, 3])
    for file, position in zip(files, (0.25, 0.75, 1.25), strict=True):
        change(file, ImagePositionPatient=[0, 0, position])
    assert read_dicom(files)[2] == (0.5, 0.8, 0.6)
    # Turned round, or all in one place: their thickness says how far.
    assert read_dicom(files[::-1])[2] == read_dicom(files[:1] * 3)[2] == (3, 0.8, 0.6)


def test_the_order_is_that_of_the_normal_and_not_of_the_third_coordinate(tmp_path):
    """Coronal slices: rows run along x and columns along -z, so that the normal is y."""
    files = series(tmp_path, [1, 2, 3], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    for file, position in zip(files, (20, 30, 10), strict=True):
        change(file, ImagePositionPatient=[0, position, 0])
    ((*ordered,),) = dicom_series(files)
    assert [file.stem for file in ordered] == ["2", "0", "1"]
    assert read_dicom(ordered)[2] == (10, 0.8, 0.6)


def test_without_places_the_numbers_order_and_the_files_say_how_far(tmp_path):
    files = series(tmp_path, [3, 1, 2], ImagePositionPatient=None, SpacingBetweenSlices=4.5)
    ((*ordered,),) = dicom_series(files)
    assert [file.stem for file in ordered] == ["1", "2", "0"]
    assert read_dicom(ordered)[2] == (4.5, 0.8, 0.6)


def test_size_is_unknown_where_no_file_says(one):
    change(one, SliceThickness=None)
    assert read_dicom([one])[2] is None
    change(one, SliceThickness=3, PixelSpacing=None)
    assert read_dicom([one])[2] is None


def test_series_are_told_apart(tmp_path):
    for number, name in enumerate(("1.2", "1.3", "1.2")):
        dicom_file(tmp_path / f"{number}.dcm", PIXELS, number=number, series=name)
    dicom_file(tmp_path / "3.dcm", PIXELS.T, number=3, series="1.2")
    (tmp_path / "4.dcm").write_bytes(b"none")
    found = dicom_series(sorted(tmp_path.iterdir()))
    assert [[file.stem for file in files] for files in found] == [["0", "2"], ["1"], ["3"], ["4"]]
    assert dicom_series([]) == []


def test_unequal_slices_are_refused(tmp_path):
    for number, pixels in enumerate((PIXELS, PIXELS.T)):
        dicom_file(tmp_path / f"{number}.dcm", pixels)
    with pytest.raises(InputError, match=r"1\.dcm is of shape \(4, 3, 1\), but .*0\.dcm of \(3, 4, 1\)"):
        read_dicom(sorted(tmp_path.iterdir()))


def test_several_frames_in_one_file_are_refused(one):
    file = pydicom.dcmread(one)
    file.NumberOfFrames, file.PixelData = 2, 2 * file.PixelData
    file.save_as(one, enforce_file_format=True)
    with pytest.raises(InputError, match="several frames"):
        read_dicom([one])


def test_color_has_three_channels(one):
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    change(one, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsAllocated=8)
    change(one, BitsStored=8, HighBit=7, RescaleSlope=None, RescaleIntercept=None, PixelData=pixels.tobytes())
    np.testing.assert_array_equal(read_dicom([one])[0][0], pixels)


# ---- NIfTI


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4), (5, 4, 3, 2), (5, 4, 3, 2, 1), (5, 4, 3, 1, 1, 1)])
def test_axes_beyond_the_channels_go(shape, tmp_path):
    """Columns, rows, slices, channels; what follows has one place each."""
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-2.0, -3.0, 4.0, 1.0])), tmp_path / "a.nii")
    read = read_nifti(tmp_path / "a.nii")
    whole = data.reshape(5, 4, shape[2] if len(shape) > 2 else 1, -1)
    np.testing.assert_array_equal(read.images, whole.transpose(2, 1, 0, 3))
    assert read.spacing == (4, 3, 2)


@pytest.mark.parametrize("shape", [(5,), (5, 4, 3, 2, 2)])
def test_other_axes_are_refused(shape, tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"Cannot read .*a\.nii as NIfTI"):
        read_nifti(tmp_path / "a.nii")


def test_a_missing_library_is_named_with_its_extra():
    with pytest.raises(InputError, match=r"no-such-reader is missing.*pip install 'brainseg_keras\[medical\]'"):
        optional_import("no_such_reader", "medical")
