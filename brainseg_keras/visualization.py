"""Pictures in one hand: outlines, fills, errors and heat on slices, and the curves of a run."""

import functools
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import pandas as pd

#: Colors, RGB: truth green, prediction red; of errors, too much red and missed blue.
TRUTH = (60, 220, 90)
PREDICTION = (255, 70, 60)
MISSED = (70, 130, 255)


def to_gray(image: np.ndarray, channel: int) -> np.ndarray:
    """Bring one channel of a slice to 8 bits for looking at.

    Args:
        image: Array of shape `(height, width, channels)`.
        channel: Which, such as `data.modalities.flair_index` says.

    Returns:
        Array of shape `(height, width)`, uint8, from the 1st to the 99.8th percentile.

    Example:
        >>> to_gray(np.zeros((4, 4, 3)), 1).dtype
        dtype('uint8')
    """
    plane = image[..., channel].astype(np.float32)
    low, high = np.percentile(plane, (1, 99.8))
    return np.uint8(np.clip((plane - low) / max(high - low, 1e-6), 0, 1) * 255)


def draw_outlines(
    gray: np.ndarray,
    outlines: list[tuple[np.ndarray, tuple[int, int, int]]],
    *,
    least: int = 256,
    thickness: int = 1,
) -> np.ndarray:
    """Draw the borders of masks on a slice.

    Args:
        gray: Array of shape `(height, width)`, uint8.
        outlines: Masks of the same shape, each with its RGB color; later ones lie on top.
        least: Pixels of the longer side, to the nearest whole scale, so that a thin line stays thin.
        thickness: Of the line, in pixels of the picture.

    Returns:
        Array of shape `(height * scale, width * scale, 3)`, uint8.

    Example:
        >>> draw_outlines(np.zeros((64, 64), "uint8"), [(np.eye(64), TRUTH)]).shape
        (256, 256, 3)
    """
    scale = max(1, round(least / max(gray.shape)))
    picture = _enlarge(gray, scale)
    for mask, color in outlines:
        large = cv2.resize(np.uint8(mask > 0), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, color, thickness, cv2.LINE_8)
    return picture


def draw_fill(
    gray: np.ndarray, fills: list[tuple[np.ndarray, tuple[int, int, int]]], opacity: float, *, least: int = 256
) -> np.ndarray:
    """Paint masks over a slice.

    Args:
        gray: Array of shape `(height, width)`, uint8.
        fills: Masks of the same shape, each with its RGB color; later ones lie on top.
        opacity: From 0, nothing to see, to 1, nothing to see through.
        least: As for `draw_outlines`.

    Returns:
        Array of shape `(height * scale, width * scale, 3)`, uint8, as `draw_outlines` gives it.

    Example:
        >>> draw_fill(np.zeros((256, 256), "uint8"), [(np.eye(256), TRUTH)], 0.5)[3, 3].tolist()
        [30, 110, 45]
    """
    scale = max(1, round(least / max(gray.shape)))
    picture = _enlarge(gray, scale)
    for mask, color in fills:
        large = cv2.resize(np.uint8(mask > 0), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST) > 0
        picture[large] = np.round(picture[large] * (1 - opacity) + np.array(color) * opacity)
    return picture


def draw_errors(gray: np.ndarray, truth: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Paint what was marked falsely (red) and what was missed (blue) over a darkened slice.

    Args:
        gray: Array of shape `(height, width)`, uint8.
        truth: Mask of the same shape.
        answer: Mask of the same shape.

    Returns:
        Array of shape `(height * scale, width * scale, 3)`, uint8, as `draw_outlines` gives it.

    Example:
        >>> draw_errors(np.zeros((256, 256), "uint8"), np.zeros((256, 256)), np.eye(256))[3, 3].tolist()
        [204, 56, 48]
    """
    truth, answer = truth > 0, answer > 0
    fills = [(answer & ~truth, PREDICTION), (truth & ~answer, MISSED)]
    return draw_fill(np.uint8(gray * 0.7), fills, 0.8)


def draw_heat(gray: np.ndarray, values: np.ndarray, *, longest: int | None = None, opacity: float = 0.8) -> np.ndarray:
    """Lay a map of values over a slice, from clear over violet and orange to yellow.

    Args:
        gray: Array of shape `(height, width)`, uint8.
        values: From 0 to 1, of any size.
        longest: Pixels of the picture's longer side; default as `draw_outlines` gives it.
        opacity: Of the value 1; lower ones are clearer.

    Returns:
        Array of shape `(height, width, 3)`, uint8.

    Example:
        >>> draw_heat(np.zeros((64, 64), "uint8"), np.zeros((8, 8)), longest=160).shape
        (160, 160, 3)
    """
    longest = longest or max(gray.shape) * max(1, round(256 / max(gray.shape)))
    size = tuple(round(side * longest / max(gray.shape)) for side in gray.shape[::-1])
    large = cv2.resize(np.float32(values), size, interpolation=cv2.INTER_LINEAR)
    # Areas where it shrinks, a smooth curve where it grows.
    shrinks = longest < max(gray.shape)
    base = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    levels = np.uint8(np.clip(large, 0, 1) * 255)
    weight = opacity * np.clip(large, 0, 1)[..., np.newaxis]
    return np.uint8(np.round(base[..., np.newaxis] * (1 - weight) + _heat_colors()[levels] * weight))


@functools.cache
def _heat_colors() -> np.ndarray:
    from matplotlib import colormaps

    return np.uint8(colormaps["inferno"](np.arange(256))[:, :3] * 255)


def place_beside(pictures: dict[str, np.ndarray], *, gap: int = 4, strip: int = 24) -> np.ndarray:
    """Put pictures of one height beside each other, each with its caption below, as large as its width allows.

    Args:
        pictures: Captions and arrays of shape `(height, width, 3)`, uint8.
        gap: Pixels between them.
        strip: Height of the captions' strip.

    Returns:
        Array of shape `(height + strip, width of all, 3)`, uint8.

    Example:
        >>> place_beside({"left": np.zeros((64, 64, 3), "uint8"), "right": np.zeros((64, 64, 3), "uint8")}).shape
        (88, 132, 3)
    """
    from PIL import Image, ImageDraw, ImageFont

    height = max(picture.shape[0] for picture in pictures.values())
    width = sum(picture.shape[1] for picture in pictures.values()) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, height + strip))
    draw, left = ImageDraw.Draw(sheet), 0
    for caption, picture in pictures.items():
        sheet.paste(Image.fromarray(picture), (left, 0))
        fonts = [ImageFont.load_default(size) for size in range(strip - 7, 9, -1)]
        fits = (font for font in fonts if font.getlength(caption) <= picture.shape[1] - 6)
        draw.text((left + 3, height + 2), caption, fill=(235, 235, 235), font=next(fits, fonts[-1]))
        left += picture.shape[1] + gap
    return np.array(sheet)


def _enlarge(gray: np.ndarray, scale: int) -> np.ndarray:
    large = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(large, cv2.COLOR_GRAY2RGB)


def plot_history(history: pd.DataFrame, path: str | Path, title: str = "") -> None:
    """Draw the curves of a run: loss, Dice and IoU per validation patient, pixel accuracy, learning rate.

    Where nobody validates, Dice and IoU are those of the training batches.

    Args:
        history: Content of history.csv.
        path: PNG to write.
        title: Above the curves.
    """
    # The object interface: pyplot would keep a global figure and look for a screen.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 6.4), layout="constrained")
    (loss, score), (accuracy, rate) = figure.subplots(2, 2)
    epochs, validated = history.epoch, "val_dice" in history
    for axes, name in ((loss, "loss"), (accuracy, "pixel_accuracy")):
        axes.plot(epochs, history[name], label="training", color="tab:blue")
        if validated:
            axes.plot(epochs, history[f"val_{name}"], label="validation", color="tab:orange")
    losses = history[["loss", "val_loss"] if validated else ["loss"]]
    loss.set(title="Loss", yscale="linear" if (losses <= 0).any(axis=None) else "log")
    for numbers in (loss.yaxis.set_major_formatter, loss.yaxis.set_minor_formatter):
        # 0.6, where a scale of logarithms would write it as a power of ten.
        numbers("{x:g}")
    accuracy.set(title="Pixel accuracy")
    _plot_scores(score, history)
    rate.plot(epochs, history.learning_rate, color="tab:gray")
    rate.set(title="Learning rate at the epoch's end")
    for axes, place in ((loss, "upper right"), (score, "lower right"), (accuracy, "lower right")):
        axes.legend(frameon=False, loc=place)
    for axes in (loss, score, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _plot_scores(axes: Any, history: pd.DataFrame) -> None:
    """Draw Dice and IoU of the validation patients, or of the training batches where there are none."""
    epochs = history.epoch
    if "val_dice" not in history:
        axes.plot(epochs, history.dice, label="Dice", color="tab:green")
        axes.plot(epochs, history.iou, label="IoU", color="tab:purple")
        axes.set(title="Dice and IoU of the training batches", ylim=(0, 1))
        return
    axes.plot(epochs, history.val_dice, label="Dice, mean", color="tab:green")
    axes.plot(epochs, history.val_dice_median, label="Dice, median", color="tab:green", linestyle="--")
    axes.fill_between(
        epochs, history.val_dice_min, history.val_dice, color="tab:green", alpha=0.15, label="Dice, to the worst"
    )
    axes.plot(epochs, history.val_iou, label="IoU, mean", color="tab:purple")
    patients = int(history.val_patients.iloc[-1])
    axes.set(title=f"Dice and IoU per validation patient (n = {patients})", ylim=(0, 1))


def plot_precision_recall(precision: np.ndarray, recall: np.ndarray, file: str | Path | BinaryIO) -> None:
    """Draw precision against recall.

    Args:
        precision: At falling thresholds.
        recall: At the same.
        file: PNG to write.
    """
    figure, axes = _square("recall", "precision")
    axes.plot(recall, precision, color="tab:blue")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    figure.savefig(file, dpi=110, format="png")


def plot_calibration(chance: np.ndarray, share: np.ndarray, count: np.ndarray, file: str | Path | BinaryIO) -> None:
    """Draw the share of tumour against the probability that was given.

    Args:
        chance: Mean probability of each bin.
        share: Share of its pixels that are tumour.
        count: Its pixels, which the size of the points tells.
        file: PNG to write.
    """
    figure, axes = _square("probability", "share that is tumour")
    axes.plot([0, 1], [0, 1], color="tab:gray", linestyle=":")
    axes.plot(chance, share, color="tab:blue")
    axes.scatter(chance, share, s=8 + 12 * np.log10(np.maximum(count, 1)), color="tab:blue")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    figure.savefig(file, dpi=110, format="png")


def plot_dice_against_volume(
    volume: np.ndarray, dice: np.ndarray, file: str | Path | BinaryIO, *, unit: str = "voxels"
) -> None:
    """Draw each patient's Dice against the size of the tumour.

    Args:
        volume: Size of each patient's tumour.
        dice: Score of each.
        file: PNG to write.
        unit: Of the volume.
    """
    from matplotlib.ticker import NullFormatter

    figure, axes = _square(f"tumour volume ({unit})", "Dice")
    axes.scatter(volume, dice, color="tab:green", alpha=0.8)
    axes.set(ylim=(-0.02, 1.02))
    smallest, largest = np.min(volume), np.max(volume)
    if smallest > 0 and largest > 10 * smallest:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure.savefig(file, dpi=110, format="png")


def _square(xlabel: str, ylabel: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
