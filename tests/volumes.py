"""NIfTI volumes with labels, on disk, in any naming."""

import numpy as np

LPS = np.diag([-1.0, -2.0, 4.0, 1.0])
SHAPE = (6, 32, 30)  # slices, rows, columns


def head(seed=0, shape=SHAPE):
    """A head with a tumour of three classes: pixels `(slices, rows, columns)` and labels 0 to 3."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    inside = ((y - shape[1] / 2) / (0.42 * shape[1])) ** 2 + ((x - shape[2] / 2) / (0.42 * shape[2])) ** 2 < 1
    pixels = np.where(inside, 80 + rng.normal(0, 3, shape), 0)
    away = np.hypot(y - 14 - seed % 3, x - 13 - seed % 4) + 2 * np.abs(z - shape[0] // 2)
    labels = np.select([away < 2.5, away < 4.5, away < 7], [1, 3, 2], 0).astype(np.uint8)
    pixels = np.where(labels > 0, 160 + 20 * labels + rng.normal(0, 3, shape), pixels)
    return pixels.astype(np.float32), labels


def write_volume(path, slices, *, axes="LPS", affine=LPS, slope=None):
    """Write slices as NIfTI, the axes in the order and sense asked for."""
    import nibabel
    from nibabel import orientations

    change = orientations.ornt_transform(orientations.axcodes2ornt("LPS"), orientations.axcodes2ornt(axes))
    data = np.transpose(slices, (2, 1, 0))
    turned = orientations.apply_orientation(data, change)
    image = nibabel.Nifti1Image(turned, affine @ orientations.inv_ornt_aff(change, data.shape))
    if slope:
        image = nibabel.Nifti1Image(np.round(turned / slope).astype(np.int16), image.affine)
        image.header.set_slope_inter(slope, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def write_patient(folder, name, *, seed=0, images=("_flair", "_t1ce"), label="_seg", scheme=(0, 1, 2, 4), axes="LPS"):
    """Write a patient's sequences (each a scaled copy of one picture) and labels in a numbering."""
    pixels, labels = head(seed)
    for index, suffix in enumerate(images):
        write_volume(folder / f"{name}{suffix}.nii.gz", pixels * (1 + index), axes=axes)
    write_volume(folder / f"{name}{label}.nii.gz", np.array(scheme, np.uint8)[labels], axes=axes)
    return pixels, labels
