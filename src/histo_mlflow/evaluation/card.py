"""The model card: what must be known of a model before anybody uses it.

The questions are those of Mitchell et al. 2019, "Model Cards for Model Reporting"
(arXiv:1810.03993), under the headings of Hugging Face's model cards where they fit. Every statement
comes from the facts that are given; what is missing among them is said to be not recorded. One
structure becomes Markdown and HTML, so the two never differ.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from histo_mlflow.evaluation._card_facts import CardFacts
from histo_mlflow.evaluation._card_limits import limits, warnings
from histo_mlflow.evaluation._card_model import data, details, division, training
from histo_mlflow.evaluation._card_results import (
    calibration,
    headline,
    results,
    slices,
    thresholds,
)
from histo_mlflow.evaluation._card_text import fact
from histo_mlflow.evaluation._card_use import get_started, intended_use, reproduce
from histo_mlflow.evaluation.markdown import markdown
from histo_mlflow.evaluation.page import Section, page

__all__ = ["CardFacts", "card", "card_html", "counted"]


def card(facts: CardFacts) -> str:
    """Write the model card as Markdown."""
    return markdown(*_page(facts))


def card_html(facts: CardFacts) -> str:
    """Write the model card as one HTML page that stands alone."""
    return page(*_page(facts))


def counted(split_table: pd.DataFrame) -> list[dict[str, Any]]:
    """Count images and groups for `CardFacts.counts`.

    Args:
        split_table: one row an image, with the columns label, group and split (`Splits.table`).

    Returns:
        One entry a split and class, and one a split with the class None: `split`, `class`,
        `images`, `groups`.
    """
    found: list[dict[str, Any]] = []
    for split, rows in split_table.groupby("split", sort=False):
        parts = [(None, rows), *rows.groupby("label")]
        found += [
            {
                "split": str(split),
                "class": None if label is None else str(label),
                "images": len(part),
                "groups": int(part["group"].nunique()),
            }
            for label, part in parts
        ]
    return found


def _page(facts: CardFacts) -> tuple[str, Sequence[tuple[str, str]], Sequence[Section]]:
    sections = [
        details(facts),
        intended_use(facts),
        data(facts),
        division(facts),
        training(facts),
        results(facts),
        calibration(facts),
        thresholds(facts),
        slices(facts),
        limits(facts),
        reproduce(facts),
        get_started(facts),
    ]
    if told := warnings(facts):
        sections.insert(0, Section("Warning", told))
    return f"Model card: {fact(facts.tags, 'histo.recipe')}", headline(facts), sections
