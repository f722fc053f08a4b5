# moto 5.2 does not know detailed monitoring.
resource "aws_instance" "node" {
  monitoring = null
}
