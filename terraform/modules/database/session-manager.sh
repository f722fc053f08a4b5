#!/bin/bash
# Installs the agent of Session Manager, from AWS's own bucket of the region. Rendered by Terraform.
set -euo pipefail
version=3.3.4624.0
package=/run/amazon-ssm-agent.deb
curl --silent --show-error --fail --retry 10 --retry-all-errors --output $package \
    "https://s3.${region}.amazonaws.com/amazon-ssm-${region}/$version/debian_amd64/amazon-ssm-agent.deb"
dpkg --install $package
systemctl enable --now amazon-ssm-agent
rm $package
