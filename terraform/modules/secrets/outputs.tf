output "key_arn" {
  description = "This region's key of the secrets."
  value       = module.key.arn
}
