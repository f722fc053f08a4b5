mock_provider "aws" {
  source          = "../../tests/mocks"
  override_during = plan
}

variables {
  name = "dob-api"
}

run "a_release_stays_what_it_is" {
  command = plan
  assert {
    condition     = aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE" && one(aws_ecr_repository.this.encryption_configuration).encryption_type == "KMS"
    error_message = "A tag can be moved, or images are not encrypted."
  }
  assert {
    condition     = one(aws_ecr_repository.this.image_scanning_configuration).scan_on_push
    error_message = "Pushed images are not scanned."
  }
}
