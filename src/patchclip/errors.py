"""The errors a user meets. Each message states the rule, the value received and the cure."""


class PatchclipError(Exception):
    """Base of every error raised on purpose; `exit_code` is what the command line returns for it."""

    exit_code = 1


class ConfigError(PatchclipError, ValueError):
    """A wrong key, name or value in a configuration or argument."""

    exit_code = 2


class DataError(PatchclipError, ValueError):
    """Input data that is missing, unreadable or has too many bad samples."""

    exit_code = 3


class CheckpointError(PatchclipError, RuntimeError):
    """A checkpoint that is missing, incomplete or does not fit the model or the configuration."""


class TowerError(PatchclipError, TypeError):
    """A model tower that cannot do what was asked, for instance drop tokens."""


class TrainingError(PatchclipError, RuntimeError):
    """Training that cannot go on, for instance because the loss stays non-finite."""


class Interrupted(PatchclipError):
    """Training was asked to stop; everything is saved. `exit_code` is 128 + the signal's number."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code
