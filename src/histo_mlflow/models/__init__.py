"""Models: from a name to a classifier of uint8 images.

`build` makes the classifier, `weights` fills it, `groups` divides it into stages with their own
learning rates, `losses` and `ema` serve its training. A served model carries this package with
it, so nothing here imports data, recipes or tracking.
"""
