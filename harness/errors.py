"""The one exception that a person sees."""


class UserError(ValueError):
    """A mistake in what the user gave: shown without a traceback, exit code 2.

    The message says what is wrong, what was given, what is allowed and what to do.
    """
