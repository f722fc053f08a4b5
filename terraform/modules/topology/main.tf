locals {
  # Each /16 has a /18 for pods and their nodes, a /22 for public subnets and a /22 for databases. Each zone gets a quarter of each, one is spare.
  tiers = {
    private = { newbits = 2, index = 0 }
    public  = { newbits = 6, index = 16 }
    data    = { newbits = 6, index = 17 }
  }

  shape = {
    a = { zone = 0, host = 11, role = "data" }
    b = { zone = 1, host = 11, role = "data" }
    c = { zone = 2, host = 11, role = "witness" }
    r = { zone = 0, host = 12, role = "restore" }
  }

  drain = yamldecode(file("${path.module}/../../../k8s/base/drain.yaml")).data

  hostname = "${var.service}.${var.domain}"

  # The letters of zones differ between accounts, and an account may lack some, so each side names its own.
  zones = { for side, place in var.regions : side => [for letter in place.zones : "${place.region}${letter}"] }

  blocks = { for side, place in var.regions : side => {
    for tier, block in local.tiers : tier => cidrsubnet(place.cidr, block.newbits, block.index)
  } }

  subnets = { for side, place in var.regions : side => {
    for tier, block in local.blocks[side] : tier => {
      for index, zone in local.zones[side] : zone => cidrsubnet(block, 2, index)
    }
  } }

  sides = { for side, place in var.regions : side => {
    region   = place.region
    cidr     = place.cidr
    zones    = local.zones[side]
    blocks   = local.blocks[side]
    subnets  = local.subnets[side]
    hostname = "${side}.${local.hostname}"
    nodes = { for suffix, node in local.shape : "${var.service}-${place.region}-${suffix}" => {
      address = cidrhost(local.subnets[side].data[local.zones[side][node.zone]], node.host)
      zone    = local.zones[side][node.zone]
      role    = node.role
    } }
  } }
}
