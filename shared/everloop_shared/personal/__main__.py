"""Makes the master key of an installation in containers, or replaces it: `docker compose run --rm masterkey rotate`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from everloop_shared.errors import Misconfigured, ServiceError
from everloop_shared.personal.master import create_master_key, read_master_keys
from everloop_shared.settings import Settings

HELP = "make: where there is none (the default); rotate: a new one, which wraps all keys; retire: remove old ones"


def main(arguments: list[str]) -> str:
    """Do what is asked and say it. Raises ServiceError."""
    parser = argparse.ArgumentParser(prog="everloop_shared.personal", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("make", "rotate", "retire"), default="make", help=HELP)
    what = parser.parse_args(arguments).what
    settings = Settings.load("personal-keys")
    if (master := settings.personal_master_key) is None:
        raise Misconfigured("set EVERLOOP_PERSONAL_MASTER_KEY to the file of the master key")
    if what == "make":
        create_master_key(master)
        return f"{master} has {len(read_master_keys(master))} master keys"
    return _replace(what, master, settings.personal_keys_url)


def _replace(what: str, master: Path, url: str) -> str:
    from everloop_shared.personal.key_store import KeyStore
    from everloop_shared.personal.rotation import add_master_key, retire, wrap_again

    store = KeyStore(url)
    try:
        if what == "retire":
            return f"{retire(master, store)} old master keys are removed from {master}"
        new = add_master_key(master, store)
        return f"{wrap_again(master, store):,} keys are wrapped by {new.id} now; the old master key goes by: retire"
    finally:
        store.close()


if __name__ == "__main__":
    try:
        sys.stdout.write(main(sys.argv[1:]) + "\n")
    except ServiceError as e:
        sys.exit(e.detail)
