terraform {
  required_version = "~> 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
  # The bucket and its region are given to terraform init: see ../README.md.
  backend "s3" {
    key          = "recovery.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
