#!/bin/sh
set -eu

# record what belongs to the zone
mkdir -p /var/lib/zone-router/zones
cat > /var/lib/zone-router/zones/router.json <<'END'
{
  "zone": true,
  "links": [
    "router-lan0",
    "zrstub0"
  ],
  "files": [
    "/etc/systemd/system/zone-router-router-links.service",
    "/etc/systemd/system/zone-router-router.service"
  ]
}
END

# the zone exists
ip netns add router

# the kernel forwards nothing in the zone
ip netns exec router sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'

# the kernel speaks no IPv6 in the zone (ipv6/conf/default/disable_ipv6)
ip netns exec router sh -c 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6'

# the kernel speaks no IPv6 in the zone (ipv6/conf/all/disable_ipv6)
ip netns exec router sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6'

# loopback is up
ip -n router link set dev lo up

# etherstub zrstub0 exists
ip link add name zrstub0 type bridge stp_state 0

# zrstub0 is marked as ours
ip link set dev zrstub0 alias zone-router:router

# zrstub0 gets no address by itself
ip link set dev zrstub0 addrgenmode none

# zrstub0 is up
ip link set dev zrstub0 up

# link wan0 reaches enp1s0
ip link add link enp1s0 name wan0 netns router mtu 1500 type macvlan mode bridge

# wan0 is marked as ours
ip -n router link set dev wan0 alias zone-router:router

# wan0 gets no address by itself
ip -n router link set dev wan0 addrgenmode none

# wan0 is up
ip -n router link set dev wan0 up

# link lan0 reaches etherstub zrstub0
ip link add name router-lan0 mtu 1500 type veth peer name lan0 netns router mtu 1500

# router-lan0 is marked as ours
ip link set dev router-lan0 alias zone-router:router

# router-lan0 gets no address by itself
ip link set dev router-lan0 addrgenmode none

# router-lan0 is a port of zrstub0
ip link set dev router-lan0 master zrstub0

# router-lan0 is up
ip link set dev router-lan0 up

# lan0 is marked as ours
ip -n router link set dev lan0 alias zone-router:router

# lan0 gets no address by itself
ip -n router link set dev lan0 addrgenmode none

# lan0 is up
ip -n router link set dev lan0 up

# the unit is as the zone needs it
mkdir -p /etc/systemd/system
cat > /etc/systemd/system/zone-router-router-links.service <<'END'
[Unit]
Description=Links of router zone router
Before=zone-router-router.service
After=network-pre.target systemd-udev-settle.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/opt/zone-router/bin/routerctl zone apply --service none --config /etc/zone-router/router.toml
END

# the unit is as the zone needs it
mkdir -p /etc/systemd/system
cat > /etc/systemd/system/zone-router-router.service <<'END'
[Unit]
Description=Router zone router
Requires=zone-router-router-links.service
After=zone-router-router-links.service

[Service]
NetworkNamespacePath=/run/netns/router
ExecStart=/opt/zone-router/bin/routerd --config /etc/zone-router/router.toml
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_NICE
NoNewPrivileges=yes
ProtectSystem=full

[Install]
WantedBy=multi-user.target
END

# systemd reads the units
systemctl daemon-reload

# routerd starts at boot
systemctl enable zone-router-router.service

# routerd runs
systemctl start zone-router-router.service
