"""The one base error. Whatever a user can do wrong is a `HistoMlflowError`.

The command line prints such an error as one plain sentence and exits with 1; any other exception
is a bug of ours and keeps its traceback. A message says what was expected, what came, where, and
what to do next. The subclasses exist so that code can tell the causes apart, not to add behaviour.
"""

import signal


class HistoMlflowError(Exception):
    """A mistake in what was asked for or given; its message is meant for the user."""


class RecipeError(HistoMlflowError):
    """A recipe, or a value given on top of one, is not valid."""


class DataError(HistoMlflowError):
    """A data set is missing, incomplete or inconsistent."""


class ImageError(DataError):
    """One image cannot be turned into pixels; the message is the reason, without a path."""


class SplitError(DataError):
    """The data cannot be divided as asked."""


class SubmissionError(HistoMlflowError):
    """A submission could not be sent, or it cannot be told whether it was taken."""


class ModelError(HistoMlflowError):
    """A model or a head cannot be built as asked."""


class WeightsError(ModelError):
    """Weights were asked for and cannot be had, or do not fit."""


class DeviceError(HistoMlflowError):
    """The device or the precision asked for is not there."""


class TrainingError(HistoMlflowError):
    """Training cannot go on."""


class OutOfMemoryError(TrainingError):
    """Memory ran out, also with the smallest portions."""


class NotANumberError(TrainingError):
    """Something in a training step became NaN or infinite.

    `sample_ids` are the images concerned: those that are known to be the cause, or all of the step.
    """

    def __init__(self, message: str, sample_ids: tuple[str, ...]) -> None:
        super().__init__(message)
        self.sample_ids = sample_ids


class StudyError(HistoMlflowError):
    """A study is not valid, is another one than was begun, or cannot go on."""


class TakenOverError(StudyError):
    """What this process works on is another's by now; whoever gets this writes nothing more."""


class ResumeError(HistoMlflowError):
    """A run cannot be continued as asked."""


class BusyError(ResumeError):
    """Another process has its hands on the run."""


class DiskError(HistoMlflowError):
    """A file cannot be written; what was there before is intact."""


class TrackingError(HistoMlflowError):
    """The tracking store cannot be reached or used."""


class ModelFolderError(HistoMlflowError):
    """A model folder is incomplete, altered or not ours."""


class EngineError(HistoMlflowError):
    """A way to compute a model's answers is not installed or does not fit the model."""


class ParityError(HistoMlflowError):
    """A logged model does not say what the trained one said of the same images."""


class PromotionError(HistoMlflowError):
    """The gate said no, or the registered model is not as it should be."""


class OvertakenError(PromotionError):
    """Somebody else moved the champion meanwhile; what was found no longer speaks of it."""


class ServeError(HistoMlflowError):
    """A server cannot be started as asked."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end. Not an `Exception`, so that nothing swallows it."""

    def __init__(self, signal_number: int, why: str | None = None) -> None:
        self.signal_number = signal_number
        super().__init__(why or f"ended by {signal.Signals(signal_number).name}")

    @property
    def exit_code(self) -> int:
        """What a shell reports: 129 for SIGHUP, 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signal_number
