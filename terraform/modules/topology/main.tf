locals {
  zone_letters = ["a", "b", "c"]

  # Within each /16: pods and their nodes /18, public /22, databases /22; a third of each but the spare quarter is a zone's.
  tiers = {
    private = { newbits = 2, index = 0 }
    public  = { newbits = 6, index = 16 }
    data    = { newbits = 6, index = 17 }
  }

  shape = {
    a = { zone = "a", host = 11, role = "data" }
    b = { zone = "b", host = 11, role = "data" }
    c = { zone = "c", host = 11, role = "witness" }
    r = { zone = "a", host = 12, role = "restore" }
  }

  drain = yamldecode(file("${path.module}/../../../k8s/base/drain.yaml")).data

  hostname = "${var.service}.${var.domain}"

  blocks = { for side, place in var.regions : side => {
    for tier, block in local.tiers : tier => cidrsubnet(place.cidr, block.newbits, block.index)
  } }

  subnets = { for side, place in var.regions : side => {
    for tier, block in local.blocks[side] : tier => {
      for index, letter in local.zone_letters : "${place.region}${letter}" => cidrsubnet(block, 2, index)
    }
  } }

  sides = { for side, place in var.regions : side => {
    region   = place.region
    cidr     = place.cidr
    blocks   = local.blocks[side]
    subnets  = local.subnets[side]
    hostname = "${side}.${local.hostname}"
    nodes = { for suffix, node in local.shape : "${var.service}-${place.region}-${suffix}" => {
      address = cidrhost(local.subnets[side].data["${place.region}${node.zone}"], node.host)
      zone    = "${place.region}${node.zone}"
      role    = node.role
    } }
  } }
}
