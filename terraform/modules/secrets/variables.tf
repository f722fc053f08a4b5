variable "key_name" {
  description = "Alias of the secrets' key, without \"alias/\"; the same in both regions."
  type        = string
}

variable "names" {
  description = "Names of the secrets, by their content."
  type        = map(string)
}

variable "replica_region" {
  description = "Region that gets a copy of every secret. null in the region of the copies, where only the key is created."
  type        = string
  default     = null
}
