"""The model as an artifact: its folder, the predictor that reads it, the pyfunc that carries it.

A logged model takes this package along, with `errors`, `randomness`, `vision` and `models`, and
nothing else of the project: these import only each other.
"""
