"""Two recipes on the LGG patients, each patient scored by a network that never met it, and their paired difference.

    python benchmarks/lgg_folds.py --data kaggle_3m -o runs/folds
    python benchmarks/lgg_folds.py --data kaggle_3m -o runs/folds --train today --fold 3
    python benchmarks/lgg_folds.py -o runs/folds --report

The first command trains what is not trained yet, goes on with what was stopped, and writes the report. The second
trains one fold alone, so that several processes share the work; the third only reports.

What is compared was fixed before anything was trained: mean Dice per patient out of fold, `improved` minus `today`,
paired over the 88 patients, with the default postprocessing of both, and an interval. Both train the same network for
the same epochs from the same seed on the same folds. Median, the worst tenth and the calibration error are reported
beside it and decide nothing.
"""

import argparse
from pathlib import Path

from brainseg_keras import TrainingConfig, train
from brainseg_keras.evaluation import interval_text
from brainseg_keras.files import write_json, write_text
from brainseg_keras.reports import compare, out_of_fold
from brainseg_keras.training import RunFolder, resume
from brainseg_keras.training.folds import is_finished

FOLDS = 5
COMMON = {
    "architecture": "attention_res_unet",
    "filters": 16,
    "size": 128,
    "batch_size": 16,
    "epochs": 32,
    "ema": 0.998,
    "weight_decay": 1e-4,
    "folds": FOLDS,
}
RECIPES = {
    # The first stage of the weights that ship.
    "today": COMMON,
    # For the patients who fail, whose tumours are large, dark or small: more varied heads and tumours, each patient
    # drawn equally often, and cross-entropy in the place of the focal loss, which leaves probabilities near one half.
    "improved": COMMON
    | {
        "loss": "bce_dice",
        "balance_patients": True,
        "rotate": 20.0,
        "zoom": 0.2,
        "shift": 0.08,
        "intensity": 0.25,
        "stand_in": 0.15,
        "darken": 0.25,
        "paste": 0.15,
        "bias_field": 0.3,
        "low_resolution": 0.15,
        "elastic": 0.015,
    },
}


def fit(data: str, recipe: str, fold: int, folder: Path) -> None:
    """Train one fold of one recipe, or go on with it."""
    run = RunFolder(folder / recipe / f"fold{fold}")
    if is_finished(run):
        return
    if run.info.exists():
        resume(run.path)
    else:
        train(TrainingConfig(data=data, fold=fold, **RECIPES[recipe]), output=run.path)


def report(folder: Path, output: Path) -> None:
    """Score each patient out of fold by both recipes, compare them, and write a table."""
    found = {}
    for recipe in RECIPES:
        runs = [folder / recipe / f"fold{number}" for number in range(1, FOLDS + 1)]
        found[recipe] = out_of_fold(runs, output=folder / recipe / "out_of_fold", tune=True).report
    difference = compare(*(folder / recipe / "out_of_fold" for recipe in ("improved", "today")))["dice"]
    rows = ["| recipe | mean | 95 % interval | median | worst tenth | tuned | calibration error | calibrated | n |"]
    rows.append("|---|---:|---|---:|---:|---:|---:|---:|---:|")
    for recipe, scores in found.items():
        dice, calibration = scores["patients"]["dice"], scores["calibration"]
        rows.append(
            f"| {recipe} | {dice['mean']:.3f} | {interval_text(dice['low'], dice['high'])} | {dice['median']:.3f} | "
            f"{scores['worst_tenth']['mean']:.3f} | {scores['tuned']['dice']['mean']:.3f} | "
            f"{calibration['before']:.3f} | {calibration['after']:.3f} | {dice['n']} |"
        )
    text = (
        "# Two recipes, out of fold\n\nWritten by `python benchmarks/lgg_folds.py`; what is compared was fixed before. "
        f"{FOLDS} folds, each patient scored by the network that never met it.\n\n" + "\n".join(rows) + "\n\n"
        f"Improved minus today, paired: {difference.difference:+.4f} "
        f"({interval_text(difference.low, difference.high, '+.4f')}), n = {difference.n}.\n"
    )
    write_text(output.with_suffix(".md"), text)
    write_json(output.with_suffix(".json"), {"recipes": RECIPES, "reports": found, "difference": vars(difference)})
    print(output.with_suffix(".md"))


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description="Two recipes on the LGG patients, out of fold.")
    parser.add_argument("--data", help="the folder kaggle_3m, or a packed .h5 of it")
    parser.add_argument("-o", "--output", type=Path, default=Path("tensorboard_logs/folds"), help="folder of the runs")
    parser.add_argument("--train", choices=RECIPES, help="only train this recipe")
    parser.add_argument("--fold", type=int, choices=range(1, FOLDS + 1), help="only train this fold")
    parser.add_argument("--report", action="store_true", help="only score and compare what is trained")
    parser.add_argument("--table", type=Path, default=Path("benchmarks/lgg_folds"), help="table, without ending")
    options = parser.parse_args()
    if not options.report:
        if options.data is None:
            parser.error("--data says where the images are")
        for recipe in [options.train] if options.train else RECIPES:
            for fold in [options.fold] if options.fold else range(1, FOLDS + 1):
                fit(options.data, recipe, fold, options.output)
    if options.report or not (options.train or options.fold):
        report(options.output, options.table)


if __name__ == "__main__":
    main()
