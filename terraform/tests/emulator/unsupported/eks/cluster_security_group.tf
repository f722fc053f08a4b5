# A cluster of moto has no security group of its own.
data "aws_subnet" "first" {
  id = var.subnet_ids[0]
}

resource "aws_security_group" "cluster" {
  name   = "emulated-cluster"
  vpc_id = data.aws_subnet.first.vpc_id
}
