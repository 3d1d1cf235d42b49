#!/bin/sh
set -eu

# record what belongs to the zone
mkdir -p /opt/custom/zone-router/state/zones
cat > /opt/custom/zone-router/state/zones/router.json <<'END'
{
  "zone": true,
  "links": [
    "zrstub0"
  ],
  "files": []
}
END

# etherstub zrstub0 exists
nictagadm add -l zrstub0

# the image is here
imgadm import 00000000-0000-4000-8000-000000000000

# the zone is written down
mkdir -p /opt/custom/zone-router/state/zones
cat > /opt/custom/zone-router/state/zones/router.vmadm.json <<'END'
{
  "brand": "joyent-minimal",
  "image_uuid": "00000000-0000-4000-8000-000000000000",
  "alias": "router",
  "hostname": "router",
  "autoboot": true,
  "max_physical_memory": 512,
  "max_swap": 1024,
  "max_locked_memory": 256,
  "cpu_cap": 200,
  "max_lwps": 2000,
  "quota": 10,
  "limit_priv": "default",
  "firewall_enabled": false,
  "nics": [
    {
      "interface": "net0",
      "nic_tag": "external",
      "ips": [],
      "primary": true,
      "mtu": 1500,
      "allow_ip_spoofing": true,
      "allow_dhcp_spoofing": true
    },
    {
      "interface": "net1",
      "nic_tag": "zrstub0",
      "ips": [],
      "mtu": 1500,
      "allow_ip_spoofing": true,
      "allow_dhcp_spoofing": true
    }
  ],
  "filesystems": [
    {
      "type": "lofs",
      "source": "/opt/custom/zone-router",
      "target": "/opt/zone-router",
      "options": [
        "ro",
        "nodevices"
      ]
    },
    {
      "type": "lofs",
      "source": "/opt/custom/zone-router/etc",
      "target": "/etc/zone-router",
      "options": [
        "ro",
        "nodevices"
      ]
    }
  ],
  "customer_metadata": {
    "user-script": "#!/bin/sh\nsvccfg import /opt/zone-router/lib/svc/manifest/zone-router.xml && svcadm enable network/zone-router\n"
  },
  "tags": {
    "role": "zone-router"
  }
}
END

# vmadm takes it
vmadm validate create -f /opt/custom/zone-router/state/zones/router.vmadm.json

# the zone runs
vmadm create -f /opt/custom/zone-router/state/zones/router.vmadm.json
