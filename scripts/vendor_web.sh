#!/usr/bin/env bash
# Fetches what the web pages are built with into services/agent/web/vendored, pinned by version and SHA-512. Needs npm.
# To update: change a line of PACKAGES (npm view NAME@VERSION dist.integrity), run this, run the browser tests.
set -euo pipefail
cd "$(dirname "$0")/.."
home=services/agent/web/vendored

# name@version | integrity | licence | file in the package -> file here, ...
PACKAGES='
preact@11.2.0|sha512-/HfHI/7N84e6GrWBJ3J280z3mLaRJiDcSvj/A+y/4AbLnND/1UlGHe1sR6oYuTGwId0nP7dqDU9OnLxMPZ7xBg==|MIT|dist/preact.mjs->preact.js hooks/dist/hooks.mjs->hooks.js
@preact/signals-core@1.14.5|sha512-vcRv7Ityz5JVmeiVqIluLFzT/PDS/AlhHUpw3/aUWqcVUs6bDGIPXE/6RSC4evBNWYvnniozg5Syfj33al3gkg==|MIT|dist/signals-core.mjs->signals-core.js
@preact/signals@2.11.4|sha512-Rb+5RPo9gWSaHtzJeauhHxiC8KP/IF2DEPkHPEOGOnuy2wnJzRqyeLRankUCYd6ADqtxS6GnWGv6Ie343d8aYw==|MIT|dist/signals.mjs->signals.js
htm@3.1.1|sha512-983Vyg8NwUE7JkZ6NmOqpCZ+sh1bKv2iYTlUkzlWmA5JD2acKoxd4KVxbMmxX/85mtfdnDmTFoNKcg5DGAvxNQ==|Apache-2.0|dist/htm.mjs->htm.js
'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$home"
mkdir -p "$home"
{
  echo '# Vendored'
  echo
  echo 'What the pages are built with, as published, so that nobody who runs Trunkline needs a build step or a third host.'
  echo 'Only the names in `import ... from` were changed, to the files here. `scripts/vendor_web.sh` made this directory and'
  echo 'says how to update it.'
  echo
  echo '| package | version | licence | files |'
  echo '|---|---|---|---|'
} >"$home/README.md"

while IFS='|' read -r package integrity licence files; do
  [ -n "$package" ] || continue
  name=${package%@*}
  tarball="$work/$(cd "$work" && npm pack --silent "$package")"
  found="sha512-$(openssl dgst -sha512 -binary "$tarball" | base64 -w0)"
  [ "$found" = "$integrity" ] || { echo "vendor: $package is not what it was: $found" >&2; exit 1; }
  mkdir "$work/package" && tar -xzf "$tarball" -C "$work/package" --strip-components 1
  plain=$(basename "$name")
  [ "$plain" != signals ] || plain=preact-signals
  cp "$work/package/LICENSE" "$home/LICENSE-$plain"
  for file in $files; do
    sed -e 's|from"preact/hooks"|from"./hooks.js"|g; s|from"preact"|from"./preact.js"|g' \
      -e 's|from"@preact/signals-core"|from"./signals-core.js"|g; s|//# sourceMappingURL=.*||' \
      "$work/package/${file%->*}" >"$home/${file#*->}"
  done
  echo "| $name | ${package##*@} | $licence ([text](LICENSE-$plain)) | $(sed 's/[^ ]*->\([^ ]*\)/`\1`/g; s/ /, /g' <<<"$files") |" >>"$home/README.md"
  rm -r "$work/package"
done <<<"$PACKAGES"
! grep -l 'from"[^.]' "$home"/*.js || { echo "vendor: an import leads out of $home" >&2; exit 1; }
