"""Personal values: sealed with a key for each loop and entity, so that destroying the key forgets them everywhere."""

from everloop_shared.personal.failures import PersonalRecordFailed, describe, hiding_values
from everloop_shared.personal.vault import PersonalKeysMissing, Vault

__all__ = ["PersonalKeysMissing", "PersonalRecordFailed", "Vault", "describe", "hiding_values"]
