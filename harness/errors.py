"""The exceptions that a person sees, without a traceback."""


class UserError(ValueError):
    """A mistake in what the user gave: shown without a traceback, exit code 2.

    The message says what is wrong, what was given, what is allowed and what to do.
    """


class StudyStopped(RuntimeError):
    """What went wrong while a study ran, and is not the fault of its trials: exit code 1.

    The message says what happened and what to do; what was finished is kept.
    """
