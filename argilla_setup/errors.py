"""The one exception that starting, stopping and inspecting a server may raise."""


class LauncherError(Exception):
    """One line for the user: what was seen, what was expected, what to do."""
