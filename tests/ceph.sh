#!/usr/bin/env bash
# A Ceph object gateway on one node, in memory, on loopback: an old and strict S3 server for the tests. Debian 12:
#     apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-mgr
#     tests/ceph.sh FOLDER PORT       (keys testkey and testsecret12345678; PORT + 1 is used too)
#     kill $(cat FOLDER/run/*.pid)    ends it
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
port=$2
mkdir -p "$folder"/{mon,osd,rgw,run,log}
cd "$folder"
export CEPH_CONF=$folder/ceph.conf
fsid=$(cat /proc/sys/kernel/random/uuid)
cat >ceph.conf <<END
[global]
fsid = $fsid
mon host = v1:127.0.0.1:$((port + 1))
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 2000
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
run dir = $folder/run
admin socket = $folder/run/\$name.asok
pid file = $folder/run/\$name.pid
log file = $folder/log/\$name.log
mon cluster log file = $folder/log/cluster.log
keyring = $folder/keyring
osd data = $folder/osd
mon data = $folder/mon
rgw data = $folder/rgw
END
touch keyring
monmaptool --create --clobber --fsid "$fsid" --addv a "[v1:127.0.0.1:$((port + 1))]" monmap >/dev/null
ceph-mon -i a --mkfs --monmap monmap --keyring keyring
ceph-mon -i a
again() { for _ in {1..50}; do "$@" && return; sleep 0.2; done; return 1; } # a young monitor refuses now and then
again ceph -s >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$(cat /proc/sys/kernel/random/uuid)"
again ceph osd new "$(cat osd/fsid)" 0
again ceph-osd -i 0
again ceph osd crush add osd.0 1.0 root=default host=here
radosgw -n client.rgw --rgw-frontends "beast endpoint=127.0.0.1:$port"
again radosgw-admin user create --uid=test --display-name=test --access-key=testkey --secret-key=testsecret12345678 >/dev/null
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.2; done
echo "http://127.0.0.1:$port"
