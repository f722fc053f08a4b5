output "region" {
  description = "What other parts of the system need: kubernetes, database, network, hostname. See the outputs of the region module."
  value       = module.region
}
