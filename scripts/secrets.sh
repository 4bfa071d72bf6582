#!/bin/sh
# Makes the secrets that docker-compose.yml mounts, each where there is none yet: random, in ./secrets or the folder named.
# They can be read by the users in the containers, so it is the folder that keeps others out.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-secrets}
umask 022
mkdir -p "$folder"
chmod 700 "$folder"

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

for name in grpc-token redis-password turn-secret; do
  [ -e "$folder/$name" ] || random >"$folder/$name"
done
# Redis' own list of users holds a hash, and so follows from the password.
hash=$(sha256sum <"$folder/redis-password" | cut -d' ' -f1)
cat >"$folder/redis-acl" <<ACL
user default on nopass -@all +ping
user trunkline on #$hash ~trunkline:* +@all -@admin -@dangerous
ACL
