"""Trains another package's attention U-Net in its own environment, in the way of its own examples.

Started by benchmarks/rivals.py with one JSON. Knows nothing of this package. What differs between the three is what
their examples differ in; what all do is: slices brought to the network's size, every slice of the training patients
each epoch, after each epoch the validation score, whose best weights are kept, 0.5 as threshold.

- keras-unet-collection: plain arrays from 0 to 1, `fit`, binary cross-entropy and its Dice loss, Adam at 1e-3, no
  augmentation, ModelCheckpoint on the validation loss.
- medicai: its example for two-dimensional masks: EfficientNet-B0 as encoder (at its own width), BinaryDiceCELoss, AdamW
  at 1e-4, flips and quarter turns (of its example what this version has for two dimensions), ModelCheckpoint on the
  validation loss.
- MONAI: unet_training_array.py: ScaleIntensity, RandRotate90 and flips, DiceLoss(sigmoid=True), Adam at 1e-3, the best
  mean of DiceMetric.
"""

import copy
import json
import statistics
import sys
import time
import timeit
from pathlib import Path

import cv2
import numpy as np

# At the end of the path: no file of these folders may stand in for a package.
sys.path.append(str(Path(__file__).resolve().parents[1]))
TOGETHER = 16


def read(folder, size):
    """Read a split at the network's size: images `(n, size, size, channels)` from 0 to 255, masks of 0 and 1."""
    images, masks = [], []
    for file in sorted(Path(folder).glob("*.images.npy")):
        for image, mask in zip(np.load(file), np.load(str(file).replace(".images.", ".masks.")), strict=True):
            images.append(resized(image, size))
            masks.append(cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST))
    return np.stack(images), np.stack(masks)[..., np.newaxis].astype(np.float32)


def resized(image, size):
    """Bring one slice to a size."""
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return image.reshape(size, size, -1)


class KerasRival:
    """keras-unet-collection and medicai: `compile` and `fit`."""

    def __init__(self, job, channels):
        import tensorflow as tf

        self.tf, self.job = tf, job
        tf.keras.utils.set_random_seed(job["seed"])
        self.channels, self.model = channels, self.build(job["size"], channels)

    def build(self, size, channels):
        """Build the network for a size."""
        width, shape = self.job["filters"], (size, size, channels)
        if self.job["package"] == "medicai":
            from medicai.models import AttentionUNet

            return AttentionUNet(
                encoder_name="efficientnet_b0", input_shape=shape, num_classes=1, classifier_activation="sigmoid"
            )
        from keras_unet_collection import models

        return models.att_unet_2d(
            shape,
            [width * 2**level for level in range(5)],
            n_labels=1,
            activation="ReLU",
            output_activation="Sigmoid",
            batch_norm=True,
            pool=False,
            unpool="bilinear",
        )

    def learning(self):
        """Give optimizer and loss."""
        optimizers = self.tf.keras.optimizers
        if self.job["package"] == "medicai":
            from medicai.losses import BinaryDiceCELoss

            return optimizers.AdamW(1e-4, weight_decay=1e-5), BinaryDiceCELoss(from_logits=False, num_classes=1)
        from keras_unet_collection import losses

        entropy = self.tf.keras.losses.BinaryCrossentropy()
        return optimizers.Adam(1e-3), lambda truth, answer: entropy(truth, answer) + losses.dice(truth, answer)

    def stream(self, images, masks):
        """Give the training slices as `fit` takes them, shuffled and, with medicai, augmented by it."""
        data = self.tf.data.Dataset.from_tensor_slices((images, masks)).shuffle(len(images), seed=self.job["seed"])
        data = data.map(lambda image, mask: (self.tf.cast(image, "float32") / 255, mask))
        if self.job["package"] == "medicai":
            from medicai.transforms import Compose, RandomFlip, RandomRotate90

            keys = ["image", "label"]
            flip, turn = RandomFlip(keys, 0.5, spatial_axis=[0, 1]), RandomRotate90(keys, 0.5, spatial_axis=(0, 1))
            augment = Compose([flip, turn])

            def change(image, mask):
                found = augment({"image": image, "label": mask})
                return found["image"], found["label"]

            data = data.map(change, num_parallel_calls=self.tf.data.AUTOTUNE)
        return data.batch(self.job["batch_size"]).prefetch(2)

    def fit(self, training, validation, deadline):
        """Train until the minutes are over; the epochs that were done, the last one perhaps in part."""
        keras, best = self.tf.keras, str(Path(self.job["folder"]) / "best.weights.h5")

        class Clock(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if time.monotonic() > deadline:
                    self.model.stop_training = True

        optimizer, loss = self.learning()
        self.model.compile(optimizer, loss=loss)
        keep = keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True, save_weights_only=True)
        found = self.model.fit(
            self.stream(*training),
            validation_data=(validation[0] / np.float32(255), validation[1]),
            epochs=100_000,
            callbacks=[keep, Clock()],
            verbose=2,
        )
        self.model.load_weights(best)
        return len(found.history["loss"])

    def predict(self, images):
        """Give probabilities `(n, size, size)` of images from 0 to 255."""
        return self.model.predict(images / np.float32(255), batch_size=TOGETHER, verbose=0)[..., 0]

    def costs(self):
        """Count parameters, and operations at 256 x 256 pixels."""
        from peers.keras_side import count_flops

        return self.model.count_params(), count_flops(self.tf, self.build(256, self.channels), 256)


class MonaiRival:
    """MONAI: its own training loop."""

    def __init__(self, job, channels):
        import torch
        from monai.networks.nets import AttentionUnet
        from monai.transforms import Compose, RandFlip, RandRotate90, ScaleIntensity
        from monai.utils import set_determinism

        set_determinism(job["seed"])
        widths = [job["filters"] * 2**level for level in range(5)]
        self.torch, self.job = torch, job
        self.model = AttentionUnet(
            spatial_dims=2, in_channels=channels, out_channels=1, channels=widths, strides=(2,) * 4
        )
        self.scale = ScaleIntensity()
        moves = RandRotate90(prob=0.5, spatial_axes=(0, 1)), RandFlip(prob=0.5, spatial_axis=0)
        self.for_images = Compose([ScaleIntensity(), *moves])
        # Copies: the images must not use up the random state of the masks.
        self.for_masks = Compose(copy.deepcopy(moves))

    def fit(self, training, validation, deadline):
        """Train until the minutes are over."""
        from monai.data import ArrayDataset, DataLoader
        from monai.losses import DiceLoss
        from monai.metrics import DiceMetric

        torch, model, best = self.torch, self.model, (-1.0, None)
        images, masks = (np.moveaxis(array, -1, 1).astype(np.float32) for array in training)
        # It gives both transforms of a pair the same random state.
        data = ArrayDataset(list(images), self.for_images, list(masks), self.for_masks)
        loader = DataLoader(data, batch_size=self.job["batch_size"], shuffle=True)
        loss_of, optimizer, epochs = DiceLoss(sigmoid=True), torch.optim.Adam(model.parameters(), 1e-3), 0
        while time.monotonic() < deadline:
            model.train()
            for inputs, labels in loader:
                optimizer.zero_grad()
                loss = loss_of(model(inputs), labels)
                loss.backward()
                optimizer.step()
                if time.monotonic() > deadline:
                    break
            epochs += 1
            metric = DiceMetric(include_background=True, reduction="mean")
            answer = self.predict(validation[0]) > 0.5
            metric(torch.from_numpy(answer[:, np.newaxis]), torch.from_numpy(np.moveaxis(validation[1], -1, 1)))
            score = float(metric.aggregate())
            print(f"epoch {epochs}: mean dice {score:.4f}", file=sys.stderr)
            if best[1] is None or score > best[0]:
                best = score, {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(best[1])
        return epochs

    def predict(self, images):
        """Give probabilities `(n, size, size)` of images from 0 to 255."""
        torch, parts = self.torch, []
        self.model.eval()
        with torch.no_grad():
            for start in range(0, len(images), TOGETHER):
                batch = [
                    self.scale(np.moveaxis(image, -1, 0).astype(np.float32)) for image in images[start:][:TOGETHER]
                ]
                parts.append(torch.sigmoid(self.model(torch.stack([torch.as_tensor(one) for one in batch])))[:, 0])
        return torch.cat(parts).numpy()

    def costs(self):
        """Count parameters, and operations at 256 x 256 pixels."""
        from peers.torch_side import count_flops

        return sum(weights.numel() for weights in self.model.parameters()), count_flops(self.torch, self.model, 256)


def main():
    """Train, predict the patients of val and test, and say what it cost."""
    job = json.loads(sys.argv[1])
    folder, size = Path(job["folder"]), job["size"]
    channels = np.load(next((folder / "train").glob("*.images.npy")), mmap_mode="r").shape[-1]
    rival = (MonaiRival if job["package"] == "monai" else KerasRival)(job, channels)
    # What is imported and built by then is free, as it is for this package.
    start = time.monotonic()
    training, validation = (read(folder / split, size) for split in ("train", "val"))
    epochs = rival.fit(training, validation, start + 60 * job["minutes"])
    trained = time.monotonic() - start
    (folder / "masks").mkdir()
    for file in sorted(file for split in ("val", "test") for file in (folder / split).glob("*.images.npy")):
        images = np.load(file)
        chances = rival.predict(np.stack([resized(image, size) for image in images]))
        height, width = images.shape[1:3]
        masks = [cv2.resize(chance, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5 for chance in chances]
        np.save(folder / "masks" / f"{file.name.removesuffix('.images.npy')}.npy", np.stack(masks))
    some = np.resize(validation[0], (TOGETHER, *validation[0].shape[1:]))
    rival.predict(some)
    seconds = statistics.median(timeit.repeat(lambda: rival.predict(some), number=1, repeat=5))
    parameters, operations = rival.costs()
    told = {"epochs": epochs, "training": {"seconds": trained, "slices": len(training[0])}}
    told |= {"parameters": int(parameters), "gflops": operations / 1e9, "ms_a_slice": 1000 * seconds / TOGETHER}
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
