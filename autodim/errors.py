"""The one family of errors that a user meets.

Each message says what was found, where, what was expected and what to do; each class has the exit code with
which the command line ends. Anything else that escapes is a bug of autodim and keeps its traceback.
"""


class AutodimError(Exception):
    """Base of every error that is the user's to solve; the command line prints it without a traceback."""

    exit_code = 1


class ConfigError(AutodimError):
    """A config, an override or a flag that cannot be meant."""

    exit_code = 2


class DataError(AutodimError):
    """A log, a label or a schema that cannot be read as it was described."""

    exit_code = 3


class BudgetError(AutodimError):
    """A budget that no allocation meets; the message names the smallest feasible one and what forces it."""

    exit_code = 4


class RunError(AutodimError):
    """A run's stage or an artefact that is missing, damaged, in use, or made from other inputs."""

    exit_code = 5


class NoSuchRun(RunError):
    """A name that should be a run's folder and is none: the same mistake as a config that is not there, whichever
    command meets it, and so the same exit code."""

    exit_code = ConfigError.exit_code


class TrainingError(AutodimError):
    """Training that cannot go on: non-finite numbers, or a model that does not fit the device."""

    exit_code = 6


class NoSafeCut(AutodimError):
    """A budget by quality that no cut keeps; an answer, and not a fault."""

    exit_code = 7


def nearest(word: str, known: list[str]) -> str | None:
    """The entry of `known` that `word` most likely meant, or None."""
    import difflib

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: list[str]) -> str:
    """`; did you mean "x"?` with the nearest known word, else a list of all."""
    guess = nearest(word, known)
    return f'; did you mean "{guess}"?' if guess else f"; known: {', '.join(sorted(known))}"
