#!/bin/bash
# What only a node on EC2 needs, besides what the database-node module makes. Rendered by Terraform.
set -euo pipefail

# A link between regions takes smaller packets (8,500 bytes) than a VPC (9,001): find that out without ICMP, which may not arrive.
echo "net.ipv4.tcp_mtu_probing = 1" >/etc/sysctl.d/61-dob-ec2.conf
sysctl --quiet --load=/etc/sysctl.d/61-dob-ec2.conf

# The agent of Session Manager, from AWS's own bucket of the region: Debian neither installs nor packages it.
version=3.3.4624.0
package=/run/amazon-ssm-agent.deb
# shellcheck disable=SC2154 # Terraform fills in the region
url="https://s3.${region}.amazonaws.com/amazon-ssm-${region}/$version/debian_amd64/amazon-ssm-agent.deb"
/usr/lib/apt/apt-helper -o Acquire::Retries=10 download-file "$url" $package
dpkg --install $package
systemctl enable --now amazon-ssm-agent
rm $package
