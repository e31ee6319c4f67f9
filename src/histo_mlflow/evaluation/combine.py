"""Several predictions of the same images made one: ensembles, and views of test-time augmentation.

The logits are averaged. For a softmax this is the normalised geometric mean of the probabilities,
and it makes no difference whether raw logits or log-probabilities are averaged: the two differ by
a number for each image and model that is the same for all classes, and a softmax does not see it.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation._aligned import aligned, common_ids


def mean_logits(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Average the logits of several models, or views, image by image.

    Args:
        tables: name -> predictions table. All are of the same images in any order, with the same
            classes, kind of output, labels, groups and splits.

    Returns:
        A predictions table in the order of the first, with the `slice_` columns of all. One table
        comes back with its logits as they are.

    Raises:
        DataError: no tables, one that is not valid, or they differ in what is named above. An image
            of the test split of one model that another was trained on must not slip in.
    """
    if not tables:
        raise DataError("Expected predictions tables to combine, got none.")
    for table in tables.values():
        predictions.validated(table)
    ids = common_ids(tables)
    for name, table in tables.items():
        if len(table) != len(ids):
            raise DataError(
                f"Expected predictions of the same images, but {len(table) - len(ids):,} of "
                f"{len(table):,} images of {name} are not in all tables ({len(ids):,} are)."
            )
    if not ids:
        raise DataError("Expected predictions tables with rows, got none.")
    same = aligned(tables, ids)
    first_name, first = next(iter(same.items()))
    output = predictions.output_of(first)
    for name, table in same.items():
        if predictions.output_of(table) != output:
            raise DataError(
                f"Expected the output {output} of {first_name}, got "
                f"{predictions.output_of(table)} in {name}: their logits cannot be averaged."
            )
        differ = (table["split"] != first["split"]).to_numpy()
        if differ.any():
            row = int(differ.argmax())
            raise DataError(
                f"Expected an image in the same split everywhere, but {int(differ.sum()):,} "
                f"differ: {ids[row]} is {first['split'][row]} in {first_name} and "
                f"{table['split'][row]} in {name}."
            )
    return predictions.predictions_table(
        ids,
        first["group"].tolist(),
        first["split"].tolist(),
        predictions.targets_of(first),
        np.mean([predictions.logits_of(table) for table in same.values()], axis=0),
        predictions.classes_of(first),
        output,
        _attributes(same),
    )


def _attributes(tables: Mapping[str, pd.DataFrame]) -> dict[str, list[object]]:
    """What else is known of each image, of all tables together.

    Raises:
        DataError: two tables know different things of an image under one name.
    """
    found: dict[str, pd.Series] = {}
    owner: dict[str, str] = {}
    for name, table in tables.items():
        attributes = predictions.attributes_of(table)
        for column in map(str, attributes):
            values = attributes[column]
            known = found.setdefault(column, values)
            owner.setdefault(column, name)
            differ = (known != values) & ~(known.isna() & values.isna())
            if differ.any():
                raise DataError(
                    f"Expected the same {column} of an image everywhere, but {int(differ.sum()):,} "
                    f"differ between {owner[column]} and {name}."
                )
    return {column: values.tolist() for column, values in found.items()}
