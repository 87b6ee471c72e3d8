#!/bin/sh
# Prints NAME=IMAGE for each pinned image that was built on this machine under the same tag, and that no registry has: it is
# used as it is. All others are what their digests say.
cd "$(dirname "$0")/.." || exit 1
grep -hoE 'EVERLOOP_[A-Z]+_IMAGE(:-|=)[^@} ]+@sha256:[0-9a-f]{64}' docker-compose.yml deploy/Dockerfile |
  sed -E 's/^(EVERLOOP_[A-Z]+_IMAGE)(:-|=)/\1 /' |
  while read -r name image; do
    docker image inspect "$image" >/dev/null 2>&1 && continue
    digests=$(docker image inspect --format '{{len .RepoDigests}}' "${image%@*}" 2>/dev/null) || continue
    [ "$digests" != 0 ] || echo "$name=${image%@*}"
  done
