variable "name" {
  description = "Name of the repository, the same in every region, because a replicated image keeps it."
  type        = string
}
