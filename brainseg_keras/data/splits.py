"""Splits by patient: no patient stands on two sides."""

from importlib import resources

import numpy as np
import pandas as pd

from brainseg_keras import ranges
from brainseg_keras.errors import InputError


def split_patients(
    table: pd.DataFrame, *, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0
) -> pd.Series:
    """Split patients into train, validation and test, stratified by institution and tumour size.

    Patients are put in a row, institution by institution (institutions with fewer patients than a split needs merge)
    and within each by tumour size, neighbors shuffled; each split then takes evenly spaced places of that row. Every
    split gets at least one patient.

    Args:
        table: Rows of a manifest; `patient` and `tumour_pixels` are read. The institution is the second word of a
            patient's name, as in TCGA_CS_4941.
        fractions: Shares of train, validation and test patients.
        seed: Of the shuffling.

    Returns:
        Series of split names, indexed by patient.

    Raises:
        InputError: Fewer than three patients, fractions that do not sum to 1, or a seed that no generator takes.

    Example:
        >>> table = pd.DataFrame(dict(patient=[f"TCGA_CS_{i}" for i in range(10)], tumour_pixels=range(10)))
        >>> split_patients(table).value_counts()["train"].item()
        8
    """
    ranges.SEED.check("seed", seed)
    if len(fractions) != 3 or not all(share > 0 for share in fractions) or not abs(sum(fractions) - 1) <= 1e-6:
        raise InputError(f"Shares of train, val and test are positive and sum to 1. Received: {fractions}.")
    sizes = table.groupby("patient").tumour_pixels.sum()
    if len(sizes) < 3:
        raise InputError(
            f"A split needs at least three patients, one for each of train, val and test. Received: {len(sizes)} "
            f"({', '.join(map(str, sizes.index))}). Add patients, or score without training: --split all."
        )
    order = _stratified_order(sizes, fractions, np.random.default_rng(seed))
    held_out = [max(1, round(fraction * len(order))) for fraction in fractions[1:]]
    names = np.full(len(order), "train", dtype=object)
    # Evenly spaced places, val and test taking turns, so that both see every stratum.
    places = np.floor((np.arange(sum(held_out)) + 0.5) * len(order) / sum(held_out)).astype(int)
    turns = np.array(["val"] * held_out[0] + ["test"] * held_out[1], dtype=object)
    ranks = np.concatenate([(np.arange(count) + 0.5) / count for count in held_out])
    names[places] = turns[np.argsort(ranks, kind="stable")]
    return pd.Series(names, index=pd.Index(order, name="patient"), name="split").sort_index()


def _stratified_order(sizes: pd.Series, fractions: tuple[float, float, float], rng: np.random.Generator) -> list[str]:
    institutions = sizes.index.to_series().map(lambda name: [*str(name).split("_"), ""][1])
    smallest = int(np.ceil(1 / min(fractions[1:])))
    counts = institutions.value_counts()
    rare = counts[counts < smallest].index
    strata = institutions.where(~institutions.isin(rare), "(rare)")
    order: list[str] = []
    for _, group in sizes.groupby(strata):
        # Sorted by rank plus noise: similar sizes change places, small and large do not.
        ranks = group.rank(method="first").to_numpy() + rng.uniform(0, 3, len(group))
        order.extend(group.index[np.argsort(ranks)])
    return order


def assign_folds(table: pd.DataFrame, *, folds: int = 5, seed: int = 0) -> list[pd.DataFrame]:
    """Make folds by patient, stratified as `split_patients` does.

    In fold k the k-th part of the patients is tested, the next one validates, and the rest trains; so each patient is
    tested once. With two folds one part trains and the other validates, and none is left to test.

    Args:
        table: Rows of a manifest; its `split` is not read.
        folds: How many, from 2 on.
        seed: Of the shuffling.

    Returns:
        A table for each fold, with its `split` filled.

    Raises:
        InputError: Fewer than two folds, fewer patients than folds, or a seed that no generator takes.

    Example:
        >>> table = pd.DataFrame(dict(patient=[f"TCGA_CS_{i}" for i in range(10)], tumour_pixels=range(10)))
        >>> [fold.split.value_counts()["test"].item() for fold in assign_folds(table)]
        [2, 2, 2, 2, 2]
    """
    ranges.SEED.check("seed", seed)
    ranges.FOLDS.check("folds", folds)
    sizes = table.groupby("patient").tumour_pixels.sum()
    if folds > len(sizes):
        raise InputError(
            f"Folds are 2 to the number of patients, {len(sizes)}. Received: {folds}. Make fewer folds, or add "
            "patients."
        )
    share = 1 / folds
    order = _stratified_order(sizes, (1 - 2 * share, share, share), np.random.default_rng(seed))
    part = pd.Series(np.arange(len(order)) % folds, index=order)
    tables = []
    for fold in range(folds):
        names = {(fold + 1) % folds: "val"} | ({fold: "test"} if folds > 2 else {})
        tables.append(table.assign(split=table.patient.map(part).map(lambda p, names=names: names.get(p, "train"))))
    return tables


def fixed_split(dataset: str) -> pd.Series:
    """Read the split that this package fixes for a public data set, so that figures can be compared.

    Args:
        dataset: Name of the data set; `lgg` has one, any other gives an empty series.

    Returns:
        Series of split names, indexed by patient.

    Example:
        >>> fixed_split("lgg").value_counts()["train"].item()
        68
    """
    if dataset != "lgg":
        return pd.Series(dtype=object, name="split")
    with resources.files("brainseg_keras.data").joinpath("lgg_split.csv").open(encoding="utf-8") as lines:
        return pd.read_csv(lines).set_index("patient").split


def has_fixed_split(table: pd.DataFrame) -> bool:
    """Say whether this package fixes the split of a data set.

    Args:
        table: Rows of a manifest.

    Returns:
        Whether the fixed split names any of its patients.

    Example:
        >>> has_fixed_split(pd.DataFrame(dict(dataset=["lgg"], patient=["P_A_1"])))
        False
    """
    return bool(table.patient.isin(fixed_split(table.dataset.iloc[0]).index).any())


def assign_splits(table: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, list[str]]:
    """Fill the `split` column: the fixed split where the data set has one, else a seeded one by patient.

    Args:
        table: Rows of a manifest.
        seed: Of a new split; the fixed one ignores it.

    Returns:
        The table with its splits, and the patients that the fixed split does not name; theirs stays empty, which
        leaves them out of train, val and test.

    Raises:
        InputError: A new split is needed and there are fewer than three patients.

    Example:
        >>> table = pd.DataFrame(dict(dataset="lgg", patient=["P_A_1", "P_A_2", "P_B_3"], tumour_pixels=[1, 2, 3]))
        >>> sorted(assign_splits(table)[0].split)
        ['test', 'train', 'val']
    """
    splits = fixed_split(table.dataset.iloc[0]) if has_fixed_split(table) else split_patients(table, seed=seed)
    named = table.patient.map(splits).fillna("")
    return table.assign(split=named), sorted(table.patient[named == ""].unique())
