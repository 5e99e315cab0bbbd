"""Scripts that a user of each package would write, started cold: one slice to its mask, files to training batches.

python cold.py weights PACKAGE weights-file            # done once, not timed
python cold.py slice PACKAGE weights-file one.tif mask.png
python cold.py batches PACKAGE root folder,folder,...  # prints the seconds to the first batch
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path[0:1] = []
sys.path.append(str(Path(__file__).resolve().parents[1]))

SIZE, WIDTH, BATCH = 128, 16, 16
TORCH = ("monai", "segmentation_models_pytorch")


def network_of(package):
    """Build the contender's attention U-Net, or its U-Net where it has no other."""
    network = "unet" if package.startswith("segmentation_models") else "attention_unet"
    if package in TORCH:
        from peers.torch_side import build

        return build(package, network, WIDTH)
    from peers.keras_side import build

    return build(package, network, SIZE, WIDTH)


def weights(package, file):
    """Save weights for `slice`."""
    model = network_of(package)
    if package in TORCH:
        import torch

        torch.save(model.state_dict(), file)
    else:
        model.save_weights(file)


def slice(package, file, image, mask):
    """Read a slice, ask the network about it and its mirror image, write the mask."""
    from PIL import Image

    model = network_of(package)
    picture = Image.open(image).convert("RGB")
    small = np.asarray(picture.resize((SIZE, SIZE)), np.float32) / 255
    both = np.stack([small, small[:, ::-1]])
    if package in TORCH:
        import torch

        model.load_state_dict(torch.load(file))
        model.eval()
        with torch.inference_mode():
            both = torch.from_numpy(both).permute(0, 3, 1, 2)
            plain, turned = torch.sigmoid(model(both)).numpy()[:, 0]
    else:
        model.load_weights(file)
        # For two slices a direct call is quicker than predict(), which compiles first.
        plain, turned = np.asarray(model(both, training=False))[..., 0]
    answer = Image.fromarray(np.uint8((plain + turned[:, ::-1]) / 2 > 0.5) * 255)
    answer.resize(picture.size, Image.Resampling.NEAREST).save(mask)


def batches(package, root, folders):
    """Make one pass of augmented batches of 256x256 from the training patients' files."""
    side = 256
    pairs = [
        (str(path.with_name(path.stem.removesuffix("_mask") + ".tif")), str(path))
        for folder in folders.split(",")
        for path in sorted(Path(folder).glob("*_mask.tif"))
    ]
    make = {"ours": _ours, "keras": _keras, "monai": _monai, "albumentations": _albumentations}[package]
    for number, (images, masks) in zip(range(len(pairs) // BATCH), make(root, pairs), strict=False):
        if not (len(images) == len(masks) == BATCH and side in np.shape(images)):
            raise SystemExit(f"Not the task: {np.shape(images)}, {np.shape(masks)}")
        if not number:
            print(f"{time.time() - float(os.environ['STARTED']):.4f}", flush=True)


def _ours(root, pairs):
    from brainseg_keras import make_dataset

    return make_dataset(root, split="train", size=256, batch_size=BATCH).as_numpy_iterator()


def _keras(root, pairs):
    import cv2
    import tensorflow as tf
    from augmentation import keras_layers

    layers = keras_layers()

    def read(image, mask):
        picture = cv2.imread(image.decode())[..., ::-1].astype(np.float32) / 255
        marked = cv2.imread(mask.decode(), cv2.IMREAD_GRAYSCALE).astype(np.float32)[..., np.newaxis] / 255
        return np.concatenate([picture, marked], axis=-1)

    def load(image, mask):
        return tf.ensure_shape(tf.numpy_function(read, [image, mask], tf.float32), (256, 256, 4))

    def augment(data):
        for layer in layers:
            data = layer(data, training=True)
        return data[..., :3], tf.cast(data[..., 3:] > 0.5, tf.float32)

    files = tf.data.Dataset.from_tensor_slices(tuple(map(list, zip(*pairs, strict=True)))).shuffle(len(pairs))
    loaded = files.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)
    return loaded.map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def _monai(root, pairs):
    import torch
    from monai.data import DataLoader, Dataset
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandAffined, RandFlipd, ScaleIntensityd

    keys = ["image", "mask"]
    angle, zoom = np.deg2rad(15), 0.15
    transform = Compose(
        [
            LoadImaged(keys, reader="PILReader"),
            EnsureChannelFirstd(["image"], channel_dim=-1),
            EnsureChannelFirstd(["mask"], channel_dim="no_channel"),
            ScaleIntensityd(keys),
            RandFlipd(keys, prob=0.5, spatial_axis=0),
            RandAffined(
                keys,
                prob=1.0,
                rotate_range=angle,
                scale_range=zoom,
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
        ]
    )
    data = Dataset([{"image": image, "mask": mask} for image, mask in pairs], transform)
    workers = torch.get_num_threads()
    for batch in DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=workers):
        yield batch["image"].numpy(), batch["mask"].numpy()


def _albumentations(root, pairs):
    import albumentations
    import cv2

    transform = albumentations.Compose(
        [albumentations.HorizontalFlip(p=0.5), albumentations.Affine(rotate=(-15, 15), scale=(1 / 1.15, 1.15), p=1.0)]
    )
    order = np.random.default_rng(0).permutation(len(pairs))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        moved = [
            transform(image=cv2.imread(pairs[i][0])[..., ::-1], mask=cv2.imread(pairs[i][1], cv2.IMREAD_GRAYSCALE))
            for i in order[start : start + BATCH]
        ]
        images = np.stack([pair["image"] for pair in moved]).astype(np.float32) / 255
        yield images, np.stack([pair["mask"] for pair in moved]).astype(np.float32)[..., np.newaxis] / 255


if __name__ == "__main__":
    {"weights": weights, "slice": slice, "batches": batches}[sys.argv[1]](*sys.argv[2:])
