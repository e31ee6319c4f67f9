"""Tables of predictions of the same images, brought into one order."""

from collections.abc import Mapping, Sequence

import pandas as pd

from histo_mlflow.errors import DataError
from histo_mlflow.evaluation import predictions


def aligned(tables: Mapping[str, pd.DataFrame], ids: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the rows of these ids of every table, in the order of `ids`, numbered anew.

    Raises:
        DataError: the classes, or the label or group of an image, are not the same in all tables.
    """
    found = {
        name: table.set_index("id", drop=False).loc[list(ids)].reset_index(drop=True)
        for name, table in tables.items()
    }
    first_name, first = next(iter(found.items()))
    classes = predictions.classes_of(first)
    for name, table in found.items():
        if (other := predictions.classes_of(table)) != classes:
            raise DataError(
                f"Expected the classes of {first_name} ({', '.join(classes)}), got "
                f"{', '.join(other)} in {name}: only models of the same classes in the same order "
                "can be held against each other."
            )
        for column in ("label", "group"):
            differ = (table[column] != first[column]).to_numpy()
            if differ.any():
                row = int(differ.argmax())
                raise DataError(
                    f"Expected the same {column} of an image everywhere, but {int(differ.sum()):,} "
                    f"of {len(first):,} differ: {first['id'][row]} is {first[column][row]!r} in "
                    f"{first_name} and {table[column][row]!r} in {name}."
                )
    return found


def common_ids(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the ids that all tables have, in the order of the first."""
    first, *others = ([str(one) for one in table["id"]] for table in tables.values())
    known = [set(ids) for ids in others]
    return [one for one in first if all(one in ids for ids in known)]
