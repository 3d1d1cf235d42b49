#!/bin/sh
set -eu

# record what belongs to the zone
mkdir -p /var/lib/zone-router/zones
cat > /var/lib/zone-router/zones/router.json <<'END'
{
  "zone": true,
  "links": [
    "lan0",
    "wan0",
    "zrstub0"
  ],
  "files": []
}
END

# etherstub zrstub0 exists
dladm create-etherstub zrstub0

# link wan0 reaches igb0
dladm create-vnic -l igb0 -p mtu=1500 wan0

# wan0 has the right MTU, whatever its creation made of it
dladm set-linkprop -p mtu=1500 wan0

# wan0 may send what it forwards
dladm reset-linkprop -p protection,allowed-ips,allowed-dhcp-cids wan0

# link lan0 reaches etherstub zrstub0
dladm create-vnic -l zrstub0 -p mtu=1500 lan0

# lan0 has the right MTU, whatever its creation made of it
dladm set-linkprop -p mtu=1500 lan0

# lan0 may send what it forwards
dladm reset-linkprop -p protection,allowed-ips,allowed-dhcp-cids lan0

# the zone's configuration is written down
mkdir -p /var/lib/zone-router/zones
cat > /var/lib/zone-router/zones/router.zonecfg <<'END'
create -b
set zonepath=/zones/router
set brand=sparse
set autoboot=true
set ip-type=exclusive
set limitpriv=default
set max-lwps=2000
add net
set physical=wan0
end
add net
set physical=lan0
end
add fs
set dir=/opt/zone-router
set special=/opt/zone-router
set type=lofs
add options ro
add options nodevices
end
add fs
set dir=/etc/zone-router
set special=/etc/zone-router
set type=lofs
add options ro
add options nodevices
end
add capped-memory
set physical=512m
set swap=1024m
set locked=256m
end
add capped-cpu
set ncpus=2.00
end
verify
commit
END

# the zone is configured
zonecfg -z router -f /var/lib/zone-router/zones/router.zonecfg

# the zone can be installed
zoneadm -z router verify

# the zone is installed (this takes minutes)
zoneadm -z router install

# the zone runs
zoneadm -z router boot

# wan0 is in the zone
sh -c 'test "$(dladm show-vnic -p -o ZONE wan0)" = router'

# lan0 is in the zone
sh -c 'test "$(dladm show-vnic -p -o ZONE lan0)" = router'

# the zone's services are up
sh -c 'i=0; until zlogin router svcs -H -o state svc:/milestone/multi-user:default | grep -qx online; do i=$((i + 1)); test $i -lt 180 || exit 1; sleep 1; done'

# the zone knows the service
zlogin router svccfg import /opt/zone-router/lib/svc/manifest/zone-router.xml

# routerd runs
zlogin router svcadm enable -s network/zone-router
