variable "key_name" {
  description = "Alias of the secrets' key, without \"alias/\"; the same in both regions."
  type        = string
}

variable "names" {
  description = "Names of the secrets, by what they hold."
  type        = map(string)
}

variable "replica_region" {
  description = "Region that gets a copy of every secret. null in the region that has the copies: there only the key is made."
  type        = string
  default     = null
}
