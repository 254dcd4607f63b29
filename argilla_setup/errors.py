"""The one exception for what a user can mend; each part of the server may have a kind of its own."""


class LauncherError(Exception):
    """One line for the user: what was seen, what was expected, what to do."""
