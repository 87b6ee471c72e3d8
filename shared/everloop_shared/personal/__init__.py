"""Personal values: sealed with a key for each loop and entity, so that destroying the key forgets them everywhere."""

from everloop_shared.personal.vault import PersonalKeysMissing, Vault

__all__ = ["PersonalKeysMissing", "Vault"]
