#!/bin/bash
# What only a node on EC2 needs. Rendered by Terraform, which fills in region, version and sha256.
# shellcheck disable=SC2154
set -euo pipefail

# Session Manager's agent, from AWS's bucket, because Debian does not package it. A unit, because cloud-init runs this once and a unit can
# try again.
url="https://s3.${region}.amazonaws.com/amazon-ssm-${region}/${version}/debian_amd64/amazon-ssm-agent.deb"
package=/run/amazon-ssm-agent.deb
systemd-run --unit=dob-agent --property=Restart=on-failure --property=RestartSec=10 --property=StartLimitIntervalSec=0 \
    /bin/bash -ec "/usr/lib/apt/apt-helper download-file $url $package SHA256:${sha256}
        dpkg --install $package
        systemctl enable --now amazon-ssm-agent
        rm $package"
