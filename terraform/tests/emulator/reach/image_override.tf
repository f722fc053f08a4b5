# AWS's own parameters can't be written by a client.
data "aws_ssm_parameter" "image" {
  name = "/emulated/image"
}
