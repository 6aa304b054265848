#!/bin/sh
# Install the Debian packages named, where this user may; else say which tests will be skipped.
set -u
missing=""
for package in "$@"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "==> not a Debian machine: install by hand what corresponds to:$missing"
  exit 0
fi
if [ "$(id -u)" = 0 ]; then as_root=""
elif sudo -n true 2>/dev/null; then as_root="sudo -n"
else
  echo "==> not root: tests that need one of these packages are skipped:$missing"
  echo "    to run them too: sudo apt-get install --no-install-recommends$missing"
  exit 0
fi
echo "==> Debian packages:$missing"
log=$(mktemp)
# A service that a package would start at once would hold the ports of the real ones.
policy=/usr/sbin/policy-rc.d
made_policy=""
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod +x "$policy" && made_policy=yes
fi
status=0
{ $as_root apt-get update -q && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1 || status=$?
[ -n "$made_policy" ] && $as_root rm -f "$policy"
if [ "$status" != 0 ]; then
  tail -n 15 "$log"
  echo "==> apt-get could not install:$missing (tests that need one are skipped, except under CI)"
fi
rm -f "$log"
exit 0
