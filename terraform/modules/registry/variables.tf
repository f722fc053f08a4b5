variable "name" {
  description = "Name of the repository, the same in every region: a copy keeps its name."
  type        = string
}
