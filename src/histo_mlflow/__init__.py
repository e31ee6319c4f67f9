"""Train, compare, tune, promote and serve classifiers of medical image patches.

The package itself imports nothing heavy: `import histo_mlflow` costs no torch and no mlflow.
"""

__version__ = "0.1.0"
