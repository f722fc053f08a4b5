#!/bin/bash
# What only a node on EC2 needs. Rendered by Terraform.
set -euo pipefail

# Session Manager's agent, from AWS's bucket, because Debian does not package it. A unit, because cloud-init runs this once and a unit can
# try again.
version=3.3.4624.0
# shellcheck disable=SC2154 # Terraform fills in the region
url="https://s3.${region}.amazonaws.com/amazon-ssm-${region}/$version/debian_amd64/amazon-ssm-agent.deb"
package=/run/amazon-ssm-agent.deb
systemd-run --unit=dob-agent --property=Restart=on-failure --property=RestartSec=10 --property=StartLimitIntervalSec=0 \
    /bin/bash -ec "/usr/lib/apt/apt-helper download-file $url $package
        dpkg --install $package
        systemctl enable --now amazon-ssm-agent
        rm $package"
