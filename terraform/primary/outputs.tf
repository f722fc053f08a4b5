output "region" {
  description = "What other parts are given: kubernetes, database, network, hostname. See the region module's outputs."
  value       = module.region
}
