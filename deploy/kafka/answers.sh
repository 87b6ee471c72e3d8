#!/bin/bash
# Healthy: the broker answers a request (ApiVersions 0, correlation id 1). A JVM per check would cost a second of CPU.
exec 3<>"/dev/tcp/127.0.0.1/${1:-9092}" || exit 1
printf '\0\0\0\016\0\022\0\0\0\0\0\001\0\004ping' >&3
[ "$(timeout 3 head -c 8 <&3 | tail -c 4 | od -An -tx1 | tr -d ' ')" = 00000001 ]
