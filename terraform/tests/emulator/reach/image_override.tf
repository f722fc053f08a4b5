# A client can't write AWS's public parameters, so the emulator has one of its own with the ID of the image.
data "aws_ssm_parameter" "image" {
  name = "/emulated/image"
}
